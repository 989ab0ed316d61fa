"""rule: which attribute the answer speaks of, and the words for its values; pair, never trained on:
two attributes together decide, a red star is no blue star."""

from __future__ import annotations

from tasm.suites import pictures, words
from tasm.suites.episodes import QUARTERS, Episode, Turn, World, by_class, same
from tasm.suites.pictures import Picture

ATTRIBUTES = ("colour", "shape", "place", "count")
HARD = (4, 2, 1, 4)  # how often training draws each, the slowest to learn most often


def scene(world: World, colour: str, shape: str, place: int, count: int) -> Picture:
    """One to three small things of one kind in one quarter."""
    left, top = QUARTERS[place]
    spots = world.rng.sample([(left + x, top + y) for x in (0, 16) for y in (0, 16)], count)
    ink = pictures.shade(world.rng, colour)
    ground = pictures.ground_for(world.rng, [ink])
    kind = "shape" if shape in pictures.SHAPES else "glyph"
    return Picture(ground, tuple(world.item(kind, shape, x, y, 16, ink) for x, y in spots))


def rule(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """All attributes vary; the word follows the values of one of them."""
    rng = world.rng
    values: dict[str, list[object]] = {
        "colour": list(world.colours(ways)),
        "shape": list(world.shapes(ways)),
        "place": list(rng.sample(range(4), min(ways, 4))),
        "count": list(rng.sample((1, 2, 3), min(ways, 3))),
    }
    decides = rng.choices(ATTRIBUTES, HARD)[0] if world.closer else rng.choice(ATTRIBUTES)
    ways = len(values[decides])
    labels, asking = world.labels(ways), rng.choice(words.ASKING)
    keys = world.order(demonstrations, ways) + world.order(queries, ways)
    for name in ATTRIBUTES:
        if name != decides and rng.random() < world.ease:
            values[name] = values[name][:1]
    turns = []
    for key in keys:
        drawn = {name: rng.choice(found) for name, found in values.items()}
        drawn[decides] = values[decides][key]
        picture = scene(world, **drawn)  # type: ignore[arg-type]
        turn = Turn((picture, asking), labels[key], facts=facts(**drawn))  # type: ignore[arg-type]
        turn.ink = picture.items[0].colour
        turns.append(turn)
    episode = by_class(keys, demonstrations, turns, layer=4)
    for i, turn in enumerate(turns):
        turn.decides = ATTRIBUTES.index(decides) if i >= 6 else -1
        turn.hints += same(i, keys, demonstrations, "word", layer=2)
    return episode


def facts(colour: str, shape: str, place: int, count: int) -> dict[str, int]:
    """What a picture shows, as numbers, for training's probes; only what has a number."""
    found = {"place": place, "count": count}
    if colour in pictures.COLOURS:
        found["colour"] = list(pictures.COLOURS).index(colour)
    if shape in pictures.SHAPES:
        found["shape"] = list(pictures.SHAPES).index(shape)
    return found


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
