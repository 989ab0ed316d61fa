"""late: several attributes stand for a class, and only the query says which of them decides."""

from __future__ import annotations

from tasm.suites import words
from tasm.suites.episodes import CELL, QUARTERS, Episode, Hint, Turn, World


def late(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """A class shows its own glyph in each quarter; a query's picture mixes the classes."""
    rng = world.rng
    labels, noted = world.labels(ways), rng.choice(words.NOTED)
    chars = world.glyphs(4 * ways)
    owner = [dict(zip(QUARTERS, chars[4 * k : 4 * k + 4], strict=True)) for k in range(ways)]
    keys = world.order(demonstrations, ways)
    shown = []
    for i, k in enumerate(keys):
        turn = Turn((labels[k], world.quarters(owner[k])), noted, 0.05, 4 * k + i % 4)
        turn.sight = CELL[QUARTERS[i % 4]]
        shown.append(turn)
    asked = []
    for q in range(queries):
        mixed = rng.sample(range(ways), 4) if ways >= 4 else rng.choices(range(ways), k=4)
        place = rng.randrange(4)
        at, right = QUARTERS[place], mixed[place]
        picture = world.quarters({a: owner[k][a] for a, k in zip(QUARTERS, mixed, strict=True)})
        hints = [Hint(3, j, CELL[at]) for j, k in enumerate(keys) if k == right]
        hints.append(Hint(2, demonstrations + q, CELL[at]))
        turn = Turn((picture, words.PLACES[place]), labels[right], 1.0, 4 * right + place, CELL[at])
        turn.hints = hints
        asked.append(turn)
    return Episode(shown, asked)
