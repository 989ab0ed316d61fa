"""Dates and names, and the one form in which they are to be written here."""

from __future__ import annotations

from functools import cache
from itertools import product

from tasm.suites.episodes import Episode, World
from tasm.suites.text.lists import part, turn

MONTHS = (
    "January February March April May June July August September October November December"
).split()
DATES = {  # months stay words: a small model reorders and shortens, it does not count months
    "held-out": ("{d} {short} {y}", "{y}, {short} {d}", "{d}-{short}-{y}", "{short}-{y}"),
    "train": ("{d}. {short} {y}", "{y} {short} {d}", "{d}/{short}/{y}", "{short} {y}"),
}


@cache
def days(split: str) -> list[str]:
    """Every day of a split, as year, month and day."""
    every = [f"{y} {m} {d}" for y in range(1900, 2030) for m in range(1, 13) for d in range(1, 29)]
    return part(every, split)


def date(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """A date is written out, its form in this task is the answer."""
    form = world.rng.choice(DATES[world.split])
    turns = []
    for drawn in world.rng.sample(days(world.split), demonstrations + queries):
        y, m, d = map(int, drawn.split())
        asked = f"{MONTHS[m - 1]} {d}, {y}"
        turns.append(turn(asked, form.format(y=y, m=m, d=d, short=MONTHS[m - 1][:3])))
    return Episode(turns[:demonstrations], turns[demonstrations:])


FIRST = (
    "Anna Peter Maria John Laura David Emma Robert Julia Thomas Sarah Michael Alice George Helen "
    "Daniel Clara Frank Nina Oscar Ruth Simon Vera Walter Ida Paul Rosa Henry Grace Martin"
).split()
LAST = (
    "Smith Miller Brown Wilson Taylor Clark Lewis Walker Hall Young King Wright Baker Green Adams "
    "Nelson Carter Turner Parker Collins Morris Cook Rogers Reed Bailey Cooper Ward Gray Foster "
    "Hayes"
).split()
NAMES = {
    "held-out": ("{last}, {first}", "{i}. {last}", "{last} {first}"),
    "train": ("{last} - {first}", "{i} {last}", "{last}/{first}"),
}


def names(split: str) -> list[str]:
    """Every name of a split."""
    return [" ".join(both) for both in product(part(FIRST, split), part(LAST, split))]


def person(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """First and last name are given, their form in this task is the answer."""
    form = world.rng.choice(NAMES[world.split])
    turns = []
    for name in world.rng.sample(names(world.split), demonstrations + queries):
        first, last = name.split()
        turns.append(turn(name, form.format(first=first, last=last, i=first[0])))
    return Episode(turns[:demonstrations], turns[demonstrations:])
