"""bind: the made-up word of each of some unseen glyph classes."""

from __future__ import annotations

from tasm.suites import words
from tasm.suites.episodes import Episode, Turn, World, by_class


def bind(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """One large glyph a picture; colours, fonts and sizes mean nothing."""
    chars, labels = world.glyphs(ways), world.labels(ways)
    asking = world.rng.choice(words.ASKING)
    keys = world.order(demonstrations, ways) + world.order(queries, ways)
    turns = [Turn((world.single("glyph", chars[k]), asking), labels[k]) for k in keys]
    return by_class(keys, demonstrations, turns, True)
