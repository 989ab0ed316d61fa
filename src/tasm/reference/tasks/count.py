"""count: how many of what the demonstrations point at."""

from __future__ import annotations

from .. import pictures, words
from ..episodes import Episode, Hint, Turn, World
from ..pictures import Picture


def count(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """Things of two colours; the answer is the number of one of them."""
    rng = world.rng
    wanted, other = rng.sample(world.colours(2), 2)
    shape, asking = world.shapes(1)[0], rng.choice(("how", "count", "number"))
    turns = []
    for i in range(demonstrations + queries):
        many, more = rng.randint(1, ways), rng.randint(1, ways)
        places = rng.sample(range(16), many + more)
        items = [
            world.item(
                "shape",
                shape,
                place % 4 * 16,
                place // 4 * 16,
                16,
                pictures.shade(rng, wanted if n < many else other),
            )
            for n, place in enumerate(places)
        ]
        ground = pictures.ground_for(rng, [item.colour for item in items])
        hints = [Hint(3, i, tuple(places[:many]))]
        parts = (Picture(ground, tuple(items)), asking)
        turns.append(Turn(parts, words.NUMBERS[many], float(i >= 3), hints=hints))
    return Episode(turns[:demonstrations], turns[demonstrations:])
