"""Pictures as plain descriptions, and their drawing: glyphs, shapes and digits on a ground."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tasm.errors import InputError
from tasm.suites.fonts import font, fonts_with

SIDE = 64  # pixels of a picture, which is read as 4x4 visual tokens of 16 pixels
FRAME = (96, 112, 160)  # a thin frame tells the model where a picture ends

Colour = tuple[int, int, int]
COLOURS: dict[str, Colour] = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (40, 70, 230),
    "yellow": (235, 215, 30),
    "orange": (245, 135, 20),
    "purple": (140, 40, 190),
    "cyan": (40, 205, 220),
    "white": (250, 250, 250),
    "pink": (250, 130, 190),
    "brown": (130, 75, 30),
    "lime": (150, 235, 60),
    "navy": (25, 30, 110),
}
HELD_OUT_COLOURS = ("pink", "brown", "lime", "navy")
SHAPES = ("circle square triangle diamond ring bar plus hexagon star cross heart moon").split()
HELD_OUT_SHAPES = ("star", "cross", "heart", "moon")


@dataclass(frozen=True)
class Look:
    """How one copy of a thing differs from the next."""

    font: str = ""
    angle: float = 0.0
    wide: float = 1.0
    tall: float = 1.0
    right: float = 0.0
    down: float = 0.0
    blur: float = 0.0


@dataclass(frozen=True)
class Item:
    """One thing in a picture: kind 'glyph', 'shape' or 'digit', its name, its box, its colour."""

    kind: str
    name: str
    left: int
    top: int
    size: int
    colour: Colour
    look: Look = field(default_factory=Look)


@dataclass(frozen=True)
class Picture:
    """Things on a ground."""

    ground: Colour
    items: tuple[Item, ...]


def look(rng: Random, kind: str, name: str, face: str | None = None, steady: bool = False) -> Look:
    """A random look; `face` fixes the font, `steady` keeps a small thing readable."""
    chosen = face or (rng.choice(fonts_with(name)) if kind == "glyph" else "")
    much = 0.5 if steady else 1.0
    return Look(
        font=chosen,
        angle=rng.gauss(0, 7 * much),
        wide=rng.uniform(1 - 0.15 * much, 1 + 0.2 * much),
        tall=rng.uniform(1 - 0.15 * much, 1 + 0.2 * much),
        right=rng.uniform(-5, 5) * much,
        down=rng.uniform(-5, 5) * much,
        blur=rng.uniform(0.5, 2.0) if rng.random() < 0.2 and not steady else 0.0,
    )


def colour(name: str) -> Colour:
    """A colour by its name, or by the numbers that `free_colours` gives."""
    if name in COLOURS:
        return COLOURS[name]
    r, g, b = (int(part) for part in name.split(","))
    return r, g, b


def lightness(name: str) -> float:
    """How light a colour is, 0 to 255."""
    r, g, b = colour(name)
    return 0.3 * r + 0.59 * g + 0.11 * b


def free_colours(rng: Random, count: int, apart: int = 110) -> list[str]:
    """Any colours that are told apart easily and are not near one that training never sees."""
    held = [COLOURS[name] for name in HELD_OUT_COLOURS]
    found: list[str] = []
    while len(found) < count:
        new = (rng.randint(15, 250), rng.randint(15, 250), rng.randint(15, 250))
        near = min((math.dist(new, colour(old)) for old in found), default=apart)
        if near >= apart and min(math.dist(new, c) for c in held) >= 60:
            found.append(",".join(map(str, new)))
    return found


def shade(rng: Random, name: str) -> Colour:
    """A colour, a little off."""
    r, g, b = (max(0, min(255, c + rng.randint(-16, 16))) for c in colour(name))
    return r, g, b


def ground_for(rng: Random, inks: list[Colour]) -> Colour:
    """Near black or near white, whatever all the inks stand out from."""
    light = [0.3 * r + 0.59 * g + 0.11 * b for r, g, b in inks]
    grounds = [(20, 20, 24)] * (min(light) > 70) + [(236, 236, 228)] * (max(light) < 190)
    return rng.choice(grounds or [(120, 120, 124)])


def ground_and_ink(rng: Random) -> tuple[Colour, Colour]:
    """Two random colours that are far enough apart to read."""

    def dark() -> Colour:
        return rng.randint(0, 70), rng.randint(0, 70), rng.randint(0, 70)

    def light() -> Colour:
        return rng.randint(140, 255), rng.randint(140, 255), rng.randint(140, 255)

    return (dark(), light()) if rng.random() < 0.5 else (light(), dark())


def mask(kind: str, name: str, how: Look, size: int = SIDE) -> Image.Image:
    """The ink of one thing in a box."""
    big = Image.new("L", (88, 88), 0)
    if kind == "glyph":
        _glyph(big, name, how.font)
    elif kind == "digit":
        big.paste(_digit(int(name)), (14, 14))
    else:
        _shape(big, name)
    big = big.rotate(how.angle, Image.Resampling.BILINEAR)
    sx, sy = 1 / how.wide, 1 / how.tall
    matrix = (sx, 0, 44 - 32 * sx + how.right, 0, sy, 44 - 32 * sy + how.down)
    out = big.transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    if how.blur:
        out = out.filter(ImageFilter.GaussianBlur(how.blur))
    return out if size == SIDE else out.resize((size, size), Image.Resampling.BOX)


def _glyph(box: Image.Image, char: str, name: str) -> None:
    draw = ImageDraw.Draw(box)
    left, top, right, bottom = draw.textbbox((0, 0), char, font=font(name, 48))
    scale = min(1.0, 56 / max(right - left, bottom - top, 1))
    size = max(12, int(48 * scale))
    left, top, right, bottom = draw.textbbox((0, 0), char, font=font(name, size))
    at = (44 - (left + right) / 2, 44 - (top + bottom) / 2)
    draw.text(at, char, fill=255, font=font(name, size))


@lru_cache(maxsize=1)
def _handwriting() -> np.ndarray:
    try:
        datasets = import_module("sklearn.datasets")
    except ImportError as error:
        raise InputError(
            "The suite 'digits' needs scikit-learn: pip install 'tasm[suites]'."
        ) from error
    return np.asarray(datasets.load_digits().images, dtype=np.float32)


@lru_cache(maxsize=1)
def digit_classes() -> tuple[tuple[int, ...], ...]:
    """For each of the ten digits, which handwritten pictures show it."""
    _handwriting()
    target = np.asarray(import_module("sklearn.datasets").load_digits().target)
    return tuple(tuple(int(i) for i in np.flatnonzero(target == d)) for d in range(10))


def _digit(index: int) -> Image.Image:
    small = Image.fromarray((_handwriting()[index] * 15.9).astype(np.uint8))
    big = small.resize((60, 60), Image.Resampling.BICUBIC)
    big = big.point([min(255, max(0, (v - 70) * 3)) for v in range(256)])
    return big.filter(ImageFilter.GaussianBlur(1))


def _polygon(points: int, radius: float, turn: float = 0.0) -> list[tuple[float, float]]:
    angles = [turn + 2 * math.pi * i / points for i in range(points)]
    return [(44 + radius * math.sin(a), 44 - radius * math.cos(a)) for a in angles]


def _shape(box: Image.Image, name: str) -> None:
    draw = ImageDraw.Draw(box)
    if name in {"circle", "ring", "moon"}:
        draw.ellipse((20, 20, 68, 68), fill=255)
        if name == "ring":
            draw.ellipse((32, 32, 56, 56), fill=0)
        if name == "moon":
            draw.ellipse((34, 14, 78, 58), fill=0)
    elif name == "square":
        draw.rectangle((23, 23, 65, 65), fill=255)
    elif name == "bar":
        draw.rectangle((18, 34, 70, 54), fill=255)
    elif name == "plus":
        draw.rectangle((36, 19, 52, 69), fill=255)
        draw.rectangle((19, 36, 69, 52), fill=255)
    elif name == "cross":
        draw.line((24, 24, 64, 64), fill=255, width=13)
        draw.line((64, 24, 24, 64), fill=255, width=13)
    elif name == "star":
        outer, inner = _polygon(5, 28), _polygon(5, 11, math.pi / 5)
        draw.polygon([p for pair in zip(outer, inner, strict=True) for p in pair], fill=255)
    elif name == "heart":
        draw.ellipse((19, 22, 45, 48), fill=255)
        draw.ellipse((43, 22, 69, 48), fill=255)
        draw.polygon([(21, 42), (67, 42), (44, 70)], fill=255)
    else:
        corners = {"triangle": 3, "diamond": 4, "hexagon": 6}[name]
        draw.polygon(_polygon(corners, 29 if corners < 6 else 26), fill=255)


def draw(picture: Picture) -> Image.Image:
    """The picture as a user would bring it."""
    out = Image.new("RGB", (SIDE, SIDE), picture.ground)
    for item in picture.items:
        ink = mask(item.kind, item.name, item.look, item.size)
        out.paste(Image.new("RGB", ink.size, item.colour), (item.left, item.top), ink)
    frame = ImageDraw.Draw(out)
    frame.rectangle((0, 0, SIDE - 1, SIDE - 1), outline=FRAME, width=2)
    return out
