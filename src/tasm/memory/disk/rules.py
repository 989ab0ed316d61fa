"""Rules for JSON values: types, ranges, what an object holds. Knows nothing of memories.

A rule is called with a value, the field's name and a list for the names of unknown fields; it
raises `Wrong` for a value that it does not allow.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

Rule = Callable[[Any, str, list[str]], None]

_DEEPEST = 32
"""How deep lists and objects may nest where anything may stand."""


class Wrong(Exception):
    """A field, such as `gate.layers[3]`, that is not what it should be; `sentence` says the field,
    what was seen, what was expected."""

    def __init__(self, field: str, value: Any, expected: str) -> None:
        self.sentence = f"{field!r} is {shown(value)}; expected {expected}."
        super().__init__(self.sentence)


class Missing(Wrong):
    """A field that is not there."""

    def __init__(self, field: str) -> None:
        super().__init__(field, None, "")
        self.sentence = f"the field {field!r} is missing."


def shown(value: Any) -> str:
    """A value in a few words, whatever its size."""
    if isinstance(value, str):
        return ascii(value) if len(value) <= 60 else f"{value[:40]!a}… ({len(value)} long)"
    if isinstance(value, list):
        inner = ", ".join(shown(entry) for entry in value) if _is_short(value) else None
        return f"a list of {len(value)}" if inner is None else f"[{inner}]"
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a whole number of more than 30 digits"
    return repr(value)


def _is_short(value: list[Any]) -> bool:
    return len(value) <= 4 and all(not isinstance(entry, list | dict) for entry in value)


def _fitting(fits: Callable[[Any], bool], expected: str) -> Rule:
    def check(value: Any, field: str, unknown: list[str]) -> None:
        if not fits(value):
            raise Wrong(field, value, expected)

    return check


def whole(low: int, high: int) -> Rule:
    """A whole number in a range; true and false are none."""
    expected = f"a whole number from {low} to {high}"
    return _fitting(lambda value: type(value) is int and low <= value <= high, expected)


def number(low: float, high: float) -> Rule:
    """A finite number in a range."""
    expected = f"a number from {low:g} to {high:g}"
    return _fitting(lambda value: type(value) in (int, float) and low <= value <= high, expected)


def text(longest: int = 1000, pattern: str | None = None, called: str = "text") -> Rule:
    """A string that UTF-8 can hold, of a given form."""
    compiled = None if pattern is None else re.compile(pattern, re.DOTALL)

    def check(value: Any, field: str, unknown: list[str]) -> None:
        if not isinstance(value, str) or not _is_unicode(value):
            raise Wrong(field, value, called)
        if len(value) > longest:
            raise Wrong(field, value, f"{called} of at most {longest} characters")
        if compiled is not None and not compiled.fullmatch(value):
            raise Wrong(field, value, called)

    return check


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which no terminal or file takes
        return False
    return True


truth = _fitting(lambda value: isinstance(value, bool), "true or false")


def one_of(*allowed: Any) -> Rule:
    """One of a few values."""
    listed = ", ".join(shown(value) for value in allowed)

    def fits(value: Any) -> bool:
        return any(type(value) is type(choice) and value == choice for choice in allowed)

    return _fitting(fits, listed if len(allowed) == 1 else f"one of {listed}")


def null_or(rule: Rule) -> Rule:
    """Null, or what a rule allows."""

    def check(value: Any, field: str, unknown: list[str]) -> None:
        if value is not None:
            rule(value, field, unknown)

    return check


def either(first: Rule, second: Rule) -> Rule:
    """What one of two rules allows; the second's sentence is given."""

    def check(value: Any, field: str, unknown: list[str]) -> None:
        try:
            first(value, field, unknown)
        except Wrong:
            second(value, field, unknown)

    return check


def list_of(rule: Rule, longest: int, shortest: int = 0) -> Rule:
    """A list whose entries a rule allows."""

    def check(value: Any, field: str, unknown: list[str]) -> None:
        if not isinstance(value, list) or not shortest <= len(value) <= longest:
            expected = "a list" if not shortest else f"a list of {shortest}"
            raise Wrong(field, value, expected)
        for place, entry in enumerate(value):
            rule(entry, f"{field}[{place}]", unknown)

    return check


def map_of(rule: Rule) -> Rule:
    """An object of any names, its values as a rule allows."""

    def check(value: Any, field: str, unknown: list[str]) -> None:
        if not isinstance(value, dict):
            raise Wrong(field, value, "an object")
        for name, entry in value.items():
            _NAME(name, f"a name in {field}", unknown)
            rule(entry, _inside(field, name), unknown)

    return check


def fields(
    required: Mapping[str, Rule],
    optional: Mapping[str, Rule] | None = None,
    unknown: Literal["ignored", "refused"] = "ignored",
) -> Rule:
    """An object of known fields; unknown ones are listed, or refused where they would matter."""
    rules = {**required, **(optional or {})}
    others = unknown

    def check(value: Any, field: str, unknown: list[str]) -> None:
        if not isinstance(value, dict):
            raise Wrong(field, value, "an object")
        for name in required:
            if name not in value:
                raise Missing(_inside(field, name))
        for name, entry in value.items():
            if name in rules:
                rules[name](entry, _inside(field, name), unknown)
            elif others == "refused":
                raise Wrong(
                    _inside(field, name), entry, f"none but {', '.join(rules)} in {field!r}"
                )
            else:
                _NAME(name, f"a name in {field or 'it'}", unknown)
                _free(entry, _inside(field, name), _DEEPEST)
                unknown.append(_inside(field, name))

    return check


def anything(known: Mapping[str, Rule]) -> Rule:
    """An object that may hold anything, `known` fields as their rules allow."""

    def check(value: Any, field: str, unknown: list[str]) -> None:
        if not isinstance(value, dict):
            raise Wrong(field, value, "an object")
        _free(value, field, _DEEPEST)
        for name, rule in known.items():
            if name in value:
                rule(value[name], _inside(field, name), unknown)

    return check


def _free(value: Any, field: str, depth: int) -> None:
    if isinstance(value, list | dict):
        if depth == 0:
            raise Wrong(field[:200], value, f"lists and objects at most {_DEEPEST} deep")
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, entry in pairs:
            if isinstance(name, str):
                _NAME(name, f"a name in {field}", [])
            inner = f"{field}[{name}]" if isinstance(name, int) else _inside(field, name)
            _free(entry, inner, depth - 1)
    elif isinstance(value, str):
        _ANY_TEXT(value, field, [])
    elif isinstance(value, float) and not math.isfinite(value):
        raise Wrong(field, value, "a finite number")
    elif value is not None and not isinstance(value, bool | int | float):
        raise Wrong(field, value, "a value that JSON has")


def _inside(field: str, name: str) -> str:
    shown_name = name if len(name) <= 60 else f"{name[:40]}…"
    return f"{field}.{shown_name}" if field else shown_name


_NAME = text(longest=1000)
_ANY_TEXT = text(longest=16_000_000)
