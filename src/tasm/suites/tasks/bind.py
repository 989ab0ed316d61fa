"""bind: the made-up word of each of some unseen glyph classes; digits: as bind, on real
handwriting, which training never sees."""

from __future__ import annotations

from tasm.suites import words
from tasm.suites.episodes import Episode, Turn, World, by_class
from tasm.suites.pictures import digit_classes


def bind(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """One large glyph a picture; colours, fonts and sizes mean nothing."""
    chars, labels = world.glyphs(ways), world.labels(ways)
    asking = world.rng.choice(words.ASKING)
    keys = world.order(demonstrations, ways) + world.order(queries, ways)
    turns = [Turn((world.single("glyph", chars[k]), asking), labels[k]) for k in keys]
    return by_class(keys, demonstrations, turns, True)


def digits(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """No handwritten picture is shown twice."""
    classes = world.rng.sample(range(10), ways)
    labels, asking = world.labels(ways), world.rng.choice(words.ASKING)
    keys = world.order(demonstrations, ways) + world.order(queries, ways)
    unused = {k: world.rng.sample(digit_classes()[c], 100) for k, c in enumerate(classes)}
    turns = [Turn((world.single("digit", str(unused[k].pop())), asking), labels[k]) for k in keys]
    return by_class(keys, demonstrations, turns, True)
