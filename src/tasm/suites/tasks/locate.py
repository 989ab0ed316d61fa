"""locate: where a target is, in the convention that the demonstrations follow."""

from __future__ import annotations

from dataclasses import replace

from tasm.suites import pictures, words
from tasm.suites.episodes import CELL, QUARTERS, Episode, Hint, Turn, World, inked, own

ODD = ((230, 40, 40), (40, 200, 60), (60, 90, 240))
CONVENTIONS = (  # the words for QUARTERS: compass, rows first, from zero, columns first
    words.PLACES,
    ("one", "two", "three", "four"),
    ("zero", "one", "two", "three"),
    ("one", "three", "two", "four"),
)


def locate(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """Demonstrations say where the odd-coloured glyph is, and so how places are written.

    A query names a picture by its tag and shows one of its glyphs: where was it?
    """
    rng = world.rng
    tags, where = world.labels(demonstrations), rng.choice(CONVENTIONS)
    spots, turns, held = world.order(demonstrations, 4), [], []
    for i, (tag, spot) in enumerate(zip(tags, spots, strict=True)):
        held.append(dict(zip(QUARTERS, world.glyphs(4), strict=True)))
        picture, odd = world.quarters(held[i]), rng.choice(ODD)
        items = tuple(
            replace(item, colour=odd) if QUARTERS[spot] == (item.left, item.top) else item
            for item in picture.items
        )
        cells = CELL[QUARTERS[spot]]
        hints = [Hint(2, i, cells), Hint(2, i, cells, "answer")]
        known = 0.3 if i > 3 else 0.0
        seen = i % 4
        turn = Turn((tag, replace(picture, items=items)), where[spot], known, 4 * i + seen)
        turn.sight, turn.hints = CELL[QUARTERS[seen]], hints
        turns.append(turn)
    for q in range(queries):
        which, place = rng.randrange(demonstrations), rng.randrange(4)
        at = QUARTERS[place]
        ground, ink = pictures.ground_and_ink(rng)
        picture = pictures.Picture(ground, (world.item("glyph", held[which][at], 16, 16, 32, ink),))
        hints = [*own(demonstrations + q, inked(picture)), Hint(3, which, CELL[at])]
        turn = Turn((tags[which], picture), where[place], 1.0, 4 * which + place, inked(picture))
        turn.hints = hints
        turns.append(turn)
    return Episode(turns[:demonstrations], turns[demonstrations:])
