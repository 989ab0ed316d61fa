"""count: how many of what the demonstrations point at."""

from __future__ import annotations

from tasm.suites import pictures, words
from tasm.suites.episodes import Episode, Turn, World, own
from tasm.suites.pictures import Picture

LIGHTER, DARKER = 4, 5  # what decides, after the attributes of rule


def count(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """Things of two colours, never as many of one as of the other; the answer is one number."""
    rng = world.rng
    wanted, other = rng.sample(world.colours(2), 2)
    kind_of = world.shapes(1)[0]
    kind = "shape" if kind_of in pictures.SHAPES else "glyph"
    lighter = pictures.lightness(wanted) > pictures.lightness(other)
    asking, turns = rng.choice(("how", "count", "number")), []
    for i in range(demonstrations + queries):
        many, more = rng.sample(range(1, ways + 1), 2)
        places = rng.sample(range(16), many + more)
        inks = [pictures.shade(rng, wanted if n < many else other) for n in range(many + more)]
        items = [
            world.item(kind, kind_of, place % 4 * 16, place // 4 * 16, 16, ink)
            for place, ink in zip(places, inks, strict=True)
        ]
        parts = (Picture(pictures.ground_for(rng, inks), tuple(items)), asking)
        turn = Turn(parts, words.NUMBERS[many], float(i >= 3), hints=own(i))
        turn.facts = {"lighter": many, "darker": more}
        if not lighter:
            turn.facts = {"lighter": more, "darker": many}
        turn.marks = tuple(
            0 if cell not in places else 1 + ((places.index(cell) < many) == lighter)
            for cell in range(16)
        )
        turn.decides = (LIGHTER if lighter else DARKER) if i >= 5 else -1
        turns.append(turn)
    return Episode(turns[:demonstrations], turns[demonstrations:])
