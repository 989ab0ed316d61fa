"""person: a name, and the one way in which names are to be written here."""

from __future__ import annotations

from itertools import product

from tasm.suites.episodes import Episode, World
from tasm.suites.text.lists import part, turn

FIRST = (
    "Anna Peter Maria John Laura David Emma Robert Julia Thomas Sarah Michael Alice George Helen "
    "Daniel Clara Frank Nina Oscar Ruth Simon Vera Walter Ida Paul Rosa Henry Grace Martin"
).split()
LAST = (
    "Smith Miller Brown Wilson Taylor Clark Lewis Walker Hall Young King Wright Baker Green Adams "
    "Nelson Carter Turner Parker Collins Morris Cook Rogers Reed Bailey Cooper Ward Gray Foster "
    "Hayes"
).split()
WAYS = {
    "held-out": ("{last}, {first}", "{i}. {last}", "{last} {first}"),
    "train": ("{last} - {first}", "{i} {last}", "{last}/{first}"),
}


def names(split: str) -> list[str]:
    """Every name of a split."""
    return [" ".join(both) for both in product(part(FIRST, split), part(LAST, split))]


def person(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """First and last name are given, their form in this task is the answer."""
    form = world.rng.choice(WAYS[world.split])
    turns = []
    for name in world.rng.sample(names(world.split), demonstrations + queries):
        first, last = name.split()
        turns.append(turn(name, form.format(first=first, last=last, i=first[0])))
    return Episode(turns[:demonstrations], turns[demonstrations:])
