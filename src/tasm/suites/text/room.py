"""How many questions a text suite has: none is asked twice, so its lists can be too short."""

from __future__ import annotations

from collections.abc import Callable

from tasm.errors import InputError
from tasm.suites.text import kinds, pairs
from tasm.suites.text.forms import days, names
from tasm.suites.text.lists import part


def _split_of(name: str) -> Callable[[str], list[str]]:
    return lambda split: part(pairs.items(name), split)


APART: dict[str, Callable[[str], list[str]]] = {
    **{name: _split_of(name) for name in ("capital", "past", "plural", "opposite")},
    "date": days,
    "person": names,
}
"""Suites whose questions come from one list a split."""

KINDS: dict[str, Callable[[str], list[list[str]]]] = {
    "category": kinds.kinds,
    "language": lambda split: [kinds.sentences(name, split) for name in kinds.LANGUAGES],
    "sentiment": lambda split: [kinds.opinions(words, split) for words in (kinds.GOOD, kinds.BAD)],
}
"""Suites whose questions come from one list a split and kind."""


def check_room(name: str, split: str, shown: int, asked: int, ways: int) -> None:
    """Raise `InputError` where a split has too few questions for what is shown and asked."""
    if name in APART:
        there, wanted, of = len(APART[name](split)), shown + asked, "questions"
    else:
        ways = ways or 2
        there = min(map(len, KINDS[name](split)))
        wanted = -(-shown // ways) + -(-asked // ways)
        of = f"questions of each of {ways} kinds"
    if wanted > there:
        raise InputError(
            f"The suite {name} asks nothing twice, and has {there:,} {of} in the split {split}: "
            f"{shown:,} demonstrations and {asked:,} queries take {wanted:,}. Ask for fewer."
        )
