"""An episode: one task, its demonstrations and its queries, as plain records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tasm.suites import fonts, pictures, words
from tasm.suites.pictures import Colour, Item, Look, Picture

ALL = tuple(range(16))
CELL = {  # the four visual tokens under each quarter of a picture
    (0, 0): (0, 1, 4, 5),
    (32, 0): (2, 3, 6, 7),
    (0, 32): (8, 9, 12, 13),
    (32, 32): (10, 11, 14, 15),
}
QUARTERS = tuple(CELL)


@dataclass(frozen=True)
class Hint:
    """Where training tells a layer to look: a turn's answer, or some of its visual tokens.

    `source` is what looks: a question's end ("ask"), the answer, or only its last word ("word").
    """

    layer: int
    turn: int
    cells: tuple[int, ...] | None = None
    source: str = "ask"


@dataclass
class Turn:
    """A question (words and pictures in order), its answer, and what training may use of it."""

    parts: tuple[str | Picture, ...]
    answer: str
    weight: float = 0.0
    alike: int = -1  # the class of what is asked about, by its looks
    sight: tuple[int, ...] = ()  # where that is, if it is not the whole picture
    facts: dict[str, int] = field(default_factory=dict)  # what the picture shows
    ink: Colour | None = None  # the one colour in it
    marks: tuple[int, ...] = ()  # what each of its visual tokens shows
    decides: int = -1  # what the whole task turns on, numbered across the tasks
    hints: list[Hint] = field(default_factory=list)

    def question(self) -> str:
        """The text, with <image> where a picture stands."""
        return " ".join(p if isinstance(p, str) else "<image>" for p in self.parts)

    def pictures(self) -> list[Picture]:
        return [p for p in self.parts if isinstance(p, Picture)]


@dataclass
class Episode:
    """One task: what is shown, and what is asked afterwards."""

    demonstrations: list[Turn]
    queries: list[Turn]


@dataclass
class World:
    """What an episode may be made of: a split, a font, and whether looks are drawn at all."""

    rng: Random
    split: str = "held-out"
    face: str | None = None
    long: bool = True
    looks: bool = True
    named: str = fonts.NAMED
    ease: float = 0.0  # how often an attribute that does not decide stays the same
    wide: bool = False  # training: any colours, and letters as shapes
    cosine: float | None = None  # how much a held-out glyph may look like a training one
    closer: bool = False  # training: what is slow to learn comes more often

    def glyphs(self, count: int) -> list[str]:
        return self.rng.sample(fonts.glyphs(self.split, self.face, self.cosine), count)

    def labels(self, count: int) -> list[str]:
        return words.labels(self.rng, count, self.split, self.long)

    def colours(self, count: int) -> list[str]:
        """Of a held-out draw, as many as can be were never seen in training."""
        if self.wide and self.rng.random() < 0.6:
            return pictures.free_colours(self.rng, count)
        return self._values(list(pictures.COLOURS), pictures.HELD_OUT_COLOURS, count)

    def shapes(self, count: int) -> list[str]:
        """As `colours`; where training draws widely, letters are shapes too."""
        if self.wide and self.rng.random() < 0.4:
            return self.rng.sample(self.named, count)
        return self._values(list(pictures.SHAPES), pictures.HELD_OUT_SHAPES, count)

    def _values(self, every: list[str], held: tuple[str, ...], count: int) -> list[str]:
        if self.split == "train":
            return self.rng.sample([v for v in every if v not in held], count)
        unseen = self.rng.sample(held, min(count, len(held)))
        return unseen + self.rng.sample([v for v in every if v not in held], count - len(unseen))

    def look(self, kind: str, name: str, steady: bool) -> Look:
        if not self.looks:
            return Look()
        return pictures.look(self.rng, kind, name, self.face, steady)

    def item(self, kind: str, name: str, left: int, top: int, size: int, ink: Colour) -> Item:
        return Item(kind, name, left, top, size, ink, self.look(kind, name, size < 64))

    def single(self, kind: str, name: str) -> Picture:
        """One large thing."""
        ground, ink = pictures.ground_and_ink(self.rng)
        return Picture(ground, (self.item(kind, name, 0, 0, 64, ink),))

    def quarters(self, chars: dict[tuple[int, int], str]) -> Picture:
        """A glyph in each of some quarters."""
        ground, ink = pictures.ground_and_ink(self.rng)
        items = (self.item("glyph", c, x, y, 32, ink) for (x, y), c in chars.items())
        return Picture(ground, tuple(items))

    def order(self, count: int, ways: int) -> list[int]:
        """Class numbers in shuffled rounds: after k rounds each class was shown k times."""
        out: list[int] = []
        while len(out) < count:
            out += self.rng.sample(range(ways), ways)
        return out[:count]


Task = Callable[[World, int, int, int], Episode]


def own(index: int, cells: tuple[int, ...] = ALL) -> list[Hint]:
    """Both the question's end and the answer take in the turn's own picture."""
    return [Hint(1, index, cells), Hint(1, index, cells, "answer")]


def same(
    index: int, keys: list[int], demonstrations: int, source: str = "ask", layer: int = 3
) -> list[Hint]:
    """Look at the answers of the earlier demonstrations of the same class."""
    earlier = range(min(index, demonstrations))
    return [Hint(layer, j, None, source) for j in earlier if keys[j] == keys[index]]


def by_class(
    keys: list[int], demonstrations: int, turns: list[Turn], alike: bool = False, layer: int = 3
) -> Episode:
    """An episode in which the class of a picture decides; `alike` if a class looks one way."""
    for i, turn in enumerate(turns):
        found = same(i, keys, demonstrations, layer=layer)
        turn.weight, turn.alike = float(bool(found)), keys[i] if alike else -1
        turn.hints = own(i, inked(turn.pictures()[-1])) + found
    return Episode(turns[:demonstrations], turns[demonstrations:])


def inked(picture: Picture) -> tuple[int, ...]:
    """The visual tokens that show something."""
    cells: list[int] = []
    for item in picture.items:
        x, y, side = item.left // 16, item.top // 16, item.size // 16
        cells += [r * 4 + c for r in range(y, y + side) for c in range(x, x + side)]
    return tuple(cells)
