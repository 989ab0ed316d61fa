"""Fonts and glyph classes: which code points are classes, and which of them training never sees."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tasm.errors import InputError

TRAIN_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
)
HELD_OUT_FONTS = ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic")
BASE_FONT = "DejaVuSans"
NAMED = "ABCDEFGHJKLMNPRTUVWXYZ2345679"  # glyphs with a fixed name, their own
HELD_OUT_SHARE = 15  # per cent of the glyph classes


class FontsMissing(InputError):
    """Drawing needs the fonts that matplotlib ships."""


@cache
def font_path(name: str) -> str:
    """Where a font lies: a file of the user's, or one of matplotlib's by name."""
    if Path(name).suffix.lower() in {".ttf", ".otf", ".ttc"}:
        if not Path(name).is_file():
            raise InputError(f"There is no font file {name}.")
        return name
    try:
        matplotlib = import_module("matplotlib")
    except ImportError as error:
        raise FontsMissing(
            "The suites draw with matplotlib's fonts: pip install 'tasm[plots]'."
        ) from error
    shipped = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    if not shipped.is_file():
        raise InputError(f"{name} is neither a .ttf, .otf or .ttc file nor a font of matplotlib's.")
    return str(shipped)


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of a size, laid out without outside libraries."""
    return ImageFont.truetype(font_path(name), size, layout_engine=ImageFont.Layout.BASIC)


@cache
def code_points(name: str) -> frozenset[int]:
    """The characters a font holds."""
    place = font_path(name)
    ft2font = import_module("matplotlib.ft2font")
    try:
        return frozenset(ft2font.FT2Font(place).get_charmap())
    except (OSError, RuntimeError) as error:  # FreeType's own errors are RuntimeErrors
        raise InputError(f"{name} cannot be read as a font ({error}).") from error


def plain_mask(char: str, name: str, size: int = 30, box: int = 48) -> Image.Image:
    """A character, centred, white on black."""
    mask = Image.new("L", (box, box), 0)
    draw = ImageDraw.Draw(mask)
    left, top, right, bottom = draw.textbbox((0, 0), char, font=font(name, size))
    at = (box / 2 - (left + right) / 2, box / 2 - (top + bottom) / 2)
    draw.text(at, char, fill=255, font=font(name, size))
    return mask


@cache
def classes(name: str = BASE_FONT, alike: float = 0.93) -> tuple[str, ...]:
    """Characters with a sensible amount of ink, no two of them alike at 12x12."""
    chosen: list[str] = []
    codes = [code for code in code_points(name) if 32 < code < 0xE000]
    seen = np.empty((len(codes), 144), np.float32)  # one row a chosen character
    for code in sorted(codes, key=lambda c: (c > 127 or chr(c) not in NAMED, c)):
        mask = plain_mask(chr(code), name)
        ink = float(np.asarray(mask, dtype=np.float32).sum()) / 255
        if not 60 <= ink <= 900:
            continue
        small = _small(mask)
        if chosen and float(np.max(seen[: len(chosen)] @ small)) > alike:
            continue
        seen[len(chosen)] = small
        chosen.append(chr(code))
    return tuple(chosen)


def _small(mask: Image.Image) -> np.ndarray:
    """A mask at 12x12, of length one."""
    small = np.asarray(mask.resize((12, 12), Image.Resampling.BILINEAR), np.float32).ravel()
    small /= np.linalg.norm(small) + 1e-6
    return small


@cache
def closeness() -> dict[str, float]:
    """For each held-out class, its cosine with the training class that looks most like it."""
    known = np.stack([_small(plain_mask(char, BASE_FONT)) for char in glyphs("train")])
    return {
        char: float(np.max(known @ _small(plain_mask(char, BASE_FONT))))
        for char in glyphs("held-out")
    }


def held_out(char: str) -> bool:
    """A fixed draw of the classes; what has a name (ASCII) is always a training class."""
    if ord(char) < 128:
        return False
    digest = hashlib.sha256(f"glyph {ord(char)}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_SHARE


@cache
def glyphs(split: str, name: str | None = None, cosine: float | None = None) -> tuple[str, ...]:
    """The classes of a split; with a font, those of them that the font can draw; with a cosine,
    those held-out ones that look less than that like any training class."""
    if split not in {"train", "held-out"}:
        raise ValueError(f"split is 'train' or 'held-out', not {split!r}")
    found = [c for c in classes() if held_out(c) == (split == "held-out")]
    if name is not None:
        found = [c for c in found if ord(c) in code_points(name)]
    if cosine is not None:
        found = [c for c in found if closeness().get(c, 1.0) < cosine]
    return tuple(found)


@cache
def fonts_with(char: str) -> tuple[str, ...]:
    """The training fonts that hold a character."""
    return tuple(name for name in TRAIN_FONTS if ord(char) in code_points(name))
