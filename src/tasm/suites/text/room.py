"""How many questions a text suite has: none is asked twice, so its lists can be too short."""

from __future__ import annotations

from collections.abc import Callable

from tasm.errors import InputError
from tasm.suites.text import capital, category, language, opposite, past, plural, sentiment
from tasm.suites.text.date import days
from tasm.suites.text.lists import part
from tasm.suites.text.person import names

APART: dict[str, Callable[[str], list[str]]] = {
    "capital": lambda split: part(capital.CAPITALS, split),
    "past": lambda split: part(past.VERBS, split),
    "plural": lambda split: part(plural.NOUNS, split),
    "opposite": lambda split: part(opposite.WORDS, split),
    "date": days,
    "person": names,
}
"""Suites whose questions come from one list a split."""

KINDS: dict[str, Callable[[str], list[list[str]]]] = {
    "category": category.kinds,
    "language": lambda split: [language.sentences(name, split) for name in language.LANGUAGES],
    "sentiment": lambda split: [
        sentiment.opinions(words, split) for words in (sentiment.GOOD, sentiment.BAD)
    ],
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
