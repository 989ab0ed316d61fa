"""pair: a family never trained on. Two attributes together decide: a red star is no blue star."""

from __future__ import annotations

from tasm.suites import words
from tasm.suites.episodes import Episode, Turn, World, by_class
from tasm.suites.tasks.rule import scene


def pair(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """Two colours times two shapes make four classes; place and number mean nothing."""
    rng = world.rng
    colours, shapes = world.colours(2), world.shapes(2)
    kinds = [(c, s) for c in colours for s in shapes][:ways]
    labels, asking = world.labels(len(kinds)), rng.choice(words.ASKING)
    keys = world.order(demonstrations, len(kinds)) + world.order(queries, len(kinds))
    turns = [
        Turn((scene(world, *kinds[k], rng.randrange(4), rng.randint(1, 3)), asking), labels[k])
        for k in keys
    ]
    return by_class(keys, demonstrations, turns)
