"""Recognises a field that is not read and looks like one that is, so that it can be renamed.

Knows names that data sets give to questions, answers, pictures and chats; reads no values but to
see whether they are pictures.
"""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from PIL import Image

from tasm.demonstrations.file_kinds import SUFFIXES
from tasm.errors import did_you_mean

_CERTAIN_ANSWERS = (
    "label labels answers target targets gt ground_truth expected expected_answer reference "
    "gold gold_answer correct_answer"
).split()
"""Names that mean an answer also where none is needed, in queries."""

_LOOKS_LIKE = {
    "question": (
        "prompt text instruction instructions query input inputs problem user human q sentence "
        "user_input questions prompts context statement"
    ).split(),
    "answer": _CERTAIN_ANSWERS
    + (
        "response output outputs completion caption captions class class_name classname category "
        "solution assistant gpt a responses result description species name text value label_name "
        "truth y multiple_choice_answer"
    ).split(),
    "messages": "conversations conversation chat dialog dialogue turns message".split(),
}
_LIKE_A_PICTURE = ("image", "img", "picture", "photo", "file", "pixel")
"""In the name of a field: one that holds pictures."""


def similar_field(names: Iterable[Any], wanted: str) -> str | None:
    """Return the one of `names` that looks like the field `wanted`, the likeliest first.

    ```python
    >>> similar_field(["id", "label"], "answer")
    'label'
    ```
    """
    given = [name for name in names if isinstance(name, str)]
    by_folded = {_folded(name): name for name in reversed(given)}
    for known in (wanted, *_LOOKS_LIKE[wanted]):
        if known in by_folded:
            return by_folded[known]
    for name in given:
        if did_you_mean(name, [wanted]) and not _folded(name).startswith(f"{wanted}_"):
            return name
    return None


def certain_answer(names: Iterable[Any]) -> str | None:
    """Return the name that can mean nothing but the answer, such as 'label'; else None."""
    given = [name for name in names if isinstance(name, str)]
    for name in given:
        folded = _folded(name)
        if folded in _CERTAIN_ANSWERS or folded == "answer":
            return name
        if did_you_mean(name, ["answer"]) and not folded.startswith("answer_"):
            return name
    return None


def picture_field(given: Mapping[Any, Any], read: Iterable[str]) -> str | None:
    """Return the field that is not one of `read` and holds pictures, by name or value."""
    for name, value in given.items():
        if name in read:
            continue
        if any(part in str(name).lower() for part in _LIKE_A_PICTURE) or _is_picture(value):
            return str(name)
    return None


def _is_picture(value: Any) -> bool:
    if isinstance(value, Image.Image | bytes):
        return True
    if isinstance(value, str | PurePath):
        text = str(value)
        is_short = len(text) < 1000 and "\n" not in text
        return is_short and PurePath(text).suffix.lower() in SUFFIXES and " " not in text.strip()
    return isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes)


def _folded(name: str) -> str:
    return name.strip().casefold().replace("-", "_").replace(" ", "_")
