"""date: a date written out, and the one way in which it is to be written here."""

from __future__ import annotations

from tasm.suites.episodes import Episode, World
from tasm.suites.text.lists import part, turn

MONTHS = (
    "January February March April May June July August September October November December"
).split()
WAYS = {  # months stay words: a small model reorders and shortens, it does not count months
    "held-out": ("{d} {short} {y}", "{y}, {short} {d}", "{d}-{short}-{y}", "{short}-{y}"),
    "train": ("{d}. {short} {y}", "{y} {short} {d}", "{d}/{short}/{y}", "{short} {y}"),
}


def days(split: str) -> list[str]:
    """Every day of a split, as year, month and day."""
    every = [f"{y} {m} {d}" for y in range(1900, 2030) for m in range(1, 13) for d in range(1, 29)]
    return part(every, split)


def date(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """A date is written out, its form in this task is the answer."""
    form = world.rng.choice(WAYS[world.split])
    turns = []
    for drawn in world.rng.sample(days(world.split), demonstrations + queries):
        y, m, d = map(int, drawn.split())
        asked = f"{MONTHS[m - 1]} {d}, {y}"
        turns.append(turn(asked, form.format(y=y, m=m, d=d, short=MONTHS[m - 1][:3])))
    return Episode(turns[:demonstrations], turns[demonstrations:])
