"""What is wrong with one row, and how it is said."""

from collections.abc import Mapping, Sequence
from typing import Any

_KINDS = {
    "NoneType": "nothing",
    "bool": "a truth value",
    "int": "a number",
    "float": "a number",
    "dict": "an object",
    "list": "a list",
    "tuple": "a list",
    "bytes": "bytes",
}


class RowProblem(Exception):
    """One row cannot be used: the field, what was found, what is expected."""

    def __init__(self, field: str, found: str, expected: str) -> None:
        super().__init__(field, found, expected)
        self.field, self.found, self.expected = field, found, expected

    def __str__(self) -> str:
        place = f"field '{self.field}': " if self.field else ""
        return f"{place}found {self.found}; expected {self.expected}"


def describe(value: Any) -> str:
    """Return a short name of a value: `"a number (3)"`, `"the string 'wren'"`."""
    if isinstance(value, str):
        return f"the string {shorten(value)!r}"
    name = type(value).__name__
    article = "an" if name[:1].lower() in "aeiou" else "a"
    kind = _KINDS.get(name, f"{article} {name}")
    if isinstance(value, Mapping):
        return f"an object with the fields {_fields(value)}" if value else "an empty object"
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return kind if value else "an empty list"
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 10**40):
        return f"{kind} ({value})"
    return kind


def shorten(text: str) -> str:
    """Return at most 40 characters of `text`."""
    return text if len(text) <= 40 else text[:39] + "…"


def listed(lines: Sequence[str], most: int = 10) -> str:
    """Return lines of a message, the first `most`, each on its own; the others are counted."""
    more = [f"… and {len(lines) - most} more"] if len(lines) > most else []
    return "".join(f"\n  {line}" for line in [*lines[:most], *more])


def _fields(names: Mapping[Any, Any]) -> str:
    shown = [repr(name) for name in list(names)[:8]]
    return ", ".join(shown) + (", …" if len(names) > 8 else "")


def check_text(text: str, field: str) -> None:
    """Raise `RowProblem` for text that no tokenizer, file or digest takes."""
    if "\0" in text:
        raise RowProblem(field, "a NUL character", "text without control characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowProblem(field, "half of a surrogate pair", "well-formed Unicode") from None
