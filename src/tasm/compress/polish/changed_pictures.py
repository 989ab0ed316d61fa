"""Pictures changed for questions that nobody asked: parts of one, and quarters of several.

A changed picture has the size of the first it is made of, and so as many tokens. Knows pictures
only.
"""

import random
from collections.abc import Sequence

from PIL import Image

_SIDES = (0.5, 0.5, 0.75)
_SCALED = 0.5
_MIDDLE = 0.7


def part_of(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return a part of a picture: as large as the picture, or as it was on plain ground."""
    width, height = image.size
    side = rng.choice(_SIDES)
    wide, high = max(1, int(width * side)), max(1, int(height * side))
    corner = rng.random() < 0.5
    left = rng.choice((0, width - wide)) if corner else rng.randrange(width - wide + 1)
    top = rng.choice((0, height - high)) if corner else rng.randrange(height - high + 1)
    part = image.crop((left, top, left + wide, top + high))
    if rng.random() < _SCALED:
        return part.resize((width, height))
    found = Image.new("RGB", (width, height), image.getpixel((0, 0)))  # type: ignore[arg-type]
    middle = rng.random() < _MIDDLE
    x = (width - wide) // 2 if middle else rng.randrange(width - wide + 1)
    y = (height - high) // 2 if middle else rng.randrange(height - high + 1)
    found.paste(part, (x, y))
    return found


def quarters_of(images: Sequence[Image.Image], rng: random.Random) -> Image.Image:
    """Return a picture of the first one's size, each quarter of it out of any of them."""
    found = images[0].copy()
    width, height = found.size
    for across, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        box = (
            across * (width // 2),
            down * (height // 2),
            across * (width // 2) + max(1, width // 2),
            down * (height // 2) + max(1, height // 2),
        )
        found.paste(rng.choice(images).resize((width, height)).crop(box), box[:2])
    return found
