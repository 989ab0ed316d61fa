"""sentiment: whether somebody liked it, under Greek letters for yes and no."""

from __future__ import annotations

from itertools import product

from tasm.suites.episodes import Episode, World
from tasm.suites.text.lists import by_kind, empty_names, part

THINGS = (
    "the film was|the meal was|this hotel is|her new book is|the service was|the concert was|"
    "our teacher is|the beach was|the music is|his speech was|the whole trip was|the game is"
).split("|")
GOOD = (
    "wonderful great excellent amazing beautiful fantastic perfect lovely delightful brilliant "
    "superb charming pleasant magnificent enjoyable outstanding marvelous splendid"
).split()
BAD = (
    "terrible awful horrible boring disgusting dreadful ugly disappointing annoying miserable "
    "pathetic unpleasant useless nasty lousy hideous tedious appalling"
).split()


def opinions(words: list[str], split: str) -> list[str]:
    """Every sentence with a split's words."""
    return [" ".join(both) for both in product(THINGS, part(words, split))]


def sentiment(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """An opinion is given, the name for its kind is the answer."""
    kinds = [opinions(GOOD, world.split), opinions(BAD, world.split)]
    names = empty_names(world.rng, 2, world.split)
    return by_kind(world, kinds, names, demonstrations, queries)
