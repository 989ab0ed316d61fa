"""number: a number in digits, its name in words."""

from __future__ import annotations

from tasm.suites.episodes import Episode, World
from tasm.suites.text.lists import part, turn
from tasm.suites.words import NUMBERS

TEENS = ("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen").split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def spelled(number: int) -> str:
    """An English number below a thousand in words."""
    if number < 10:
        return NUMBERS[number]
    if number < 20:
        return TEENS[number - 10]
    if number < 100:
        rest = f"-{spelled(number % 10)}" if number % 10 else ""
        return TENS[number // 10 - 2] + rest
    rest = f" and {spelled(number % 100)}" if number % 100 else ""
    return f"{spelled(number // 100)} hundred{rest}"


def numbers(split: str) -> list[str]:
    """The numbers of a split."""
    return part([str(number) for number in range(1000)], split)


def number(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """Digits are given, the number's name is the answer."""
    drawn = world.rng.sample(numbers(world.split), demonstrations + queries)
    turns = [turn(digits, spelled(int(digits))) for digits in drawn]
    return Episode(turns[:demonstrations], turns[demonstrations:])
