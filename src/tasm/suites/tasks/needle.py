"""needle: a detail of one of many pictures, asked for only in the query."""

from __future__ import annotations

from tasm.suites import words
from tasm.suites.episodes import CELL, QUARTERS, Episode, Hint, Turn, World


def needle(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """Each picture has a tag and four letters; a query names a tag and a quarter."""
    rng = world.rng
    tags, noted = world.labels(demonstrations), rng.choice(words.NOTED)
    held = [{at: rng.choice(world.named) for at in QUARTERS} for _ in tags]
    shown = [
        Turn((tag, world.quarters(chars)), noted, 0.05)
        for tag, chars in zip(tags, held, strict=True)
    ]
    asked = []
    for _ in range(queries):
        which, place = rng.randrange(demonstrations), rng.randrange(4)
        at = QUARTERS[place]
        hints = [Hint(3, which, CELL[at])]
        asked.append(
            Turn((f"{tags[which]} {words.PLACES[place]}",), held[which][at], 1.0, hints=hints)
        )
    return Episode(shown, asked)
