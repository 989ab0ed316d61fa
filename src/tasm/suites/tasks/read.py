"""read: which letter of a short text is wanted, and in which form."""

from __future__ import annotations

from tasm.suites import pictures
from tasm.suites.episodes import Episode, Hint, Turn, World
from tasm.suites.pictures import Picture

FIRST = 6  # what decides, after those of rule and count


def read(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """Four letters; the answer is one of them, or the one that follows it in the alphabet."""
    rng = world.rng
    place, shift = rng.randrange(4), rng.choice((0, 0, 0, 1))
    asking, row, turns = rng.choice(("read", "letter")), rng.randrange(4), []
    for i in range(demonstrations + queries):
        text = rng.choices(range(len(world.named)), k=4)
        ground, ink = pictures.ground_and_ink(rng)
        items = tuple(
            world.item("glyph", world.named[c], x * 16, row * 16, 16, ink)
            for x, c in enumerate(text)
        )
        answer = world.named[(text[place] + shift) % len(world.named)]
        cell = (row * 4 + place,)
        hints = [Hint(1, i, cell, "answer"), Hint(4, i, cell)]
        turn = Turn((Picture(ground, items), asking), answer, float(i >= 2), hints=hints)
        turn.decides = FIRST + place + 4 * shift if i >= 3 else -1
        turns.append(turn)
    return Episode(turns[:demonstrations], turns[demonstrations:])
