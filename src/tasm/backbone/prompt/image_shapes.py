"""Makes pictures of odd shapes such that every family's image processor reads them right.

A processor takes an array with a side of 1 or 3 for one whose colours come first, and some refuse
a picture that is many times longer than wide. Knows pictures and the settings of processors; knows
no model.
"""

import math
from typing import Any

from PIL import Image

from tasm.backbone.hugging_face import HfImageProcessor, HfProcessor
from tasm.demonstrations import Picture
from tasm.errors import DemonstrationError, first_line

SMALLEST_SIDE = 4
"""Pixels; a picture with a shorter side is enlarged as a whole."""

LONGEST_SIDE = 4096
"""Pixels; a longer picture is never enlarged as a whole, and shrunk where it would be padded to a
square."""

_QWEN_RATIO = 200


def size_of(image_processor: HfImageProcessor) -> dict[str, Any]:
    """Return the entries of an image processor's `size` that say something."""
    size = getattr(image_processor, "size", None) or {}
    return {name: value for name, value in dict(size).items() if value is not None}


def size_is_an_area(image_processor: HfImageProcessor) -> bool:
    """Whether the size is an area in pixels, as Qwen's and GLM's is."""
    names = set(size_of(image_processor))
    return hasattr(image_processor, "merge_size") and names >= {"shortest_edge", "longest_edge"}


def largest_ratio(image_processor: HfImageProcessor) -> int | None:
    """Return how many times its width a picture may be long, None where that does not matter.

    Qwen and GLM refuse more than 200. Pixtral shrinks the longest side to its limit and fails where
    less than a pixel of the other remains.
    """
    if size_is_an_area(image_processor):
        return _QWEN_RATIO
    size = size_of(image_processor)
    if set(size) == {"longest_edge"} and hasattr(image_processor, "patch_size"):
        return max(1, int(size["longest_edge"]) // 2)
    return None


def least_length(processor: HfProcessor) -> int:
    """Return how long the longer side must be at least, in pixels.

    Mistral 3 takes a single image token for a whole image's features, so it gets two.
    """
    step = getattr(processor, "spatial_merge_size", None)
    patch = getattr(processor, "patch_size", None)
    if isinstance(step, int) and isinstance(patch, int):
        return step * patch + 1
    return SMALLEST_SIDE


def usable(
    image: Image.Image, ratio: int | None = None, length: int = SMALLEST_SIDE
) -> Image.Image:
    """Return the picture as a processor can take it, itself where it can already.

    It is widened to 1 : `ratio` where it is narrower, and enlarged where a side is shorter than
    `SMALLEST_SIDE` or the longer one than `length`.

    ```python
    >>> usable(Image.new("RGB", (20_000, 3)), 200).size
    (20000, 100)
    >>> usable(Image.new("RGB", (1, 30)), 200).size
    (4, 120)
    ```
    """
    longest = max(image.size)
    if ratio is not None and longest > ratio * min(image.size):
        least = -(-longest // ratio)
        width, height = (max(side, least) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    times = max(-(-SMALLEST_SIDE // min(image.size)), -(-length // max(image.size)))
    if times == 1:
        return image
    width, height = image.size
    if longest * times <= LONGEST_SIDE:
        size = (width * times, height * times)
    else:
        size = (max(width, SMALLEST_SIDE), max(height, SMALLEST_SIDE))
    return image.resize(size, Image.Resampling.NEAREST)


def for_square(image: Image.Image) -> Image.Image:
    """Return the picture, its longer side shrunk to `LONGEST_SIDE` at most.

    LLaVA-OneVision pads each of several pictures to a square before it shrinks it: 20,000 pixels
    would become 400 million.
    """
    longest = max(image.size)
    if longest <= LONGEST_SIDE:
        return image
    width, height = (max(1, round(side * LONGEST_SIDE / longest)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def limited(
    image: Image.Image, max_pixels: int | None, image_processor: HfImageProcessor
) -> Image.Image:
    """Return the picture with at most `max_pixels`, where the processor does not see to it."""
    if max_pixels is None or image.width * image.height <= max_pixels:
        return image
    if size_is_an_area(image_processor):
        return image
    scale = math.sqrt(max_pixels / (image.width * image.height))
    size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC)


class UnusablePicture(DemonstrationError):
    """A picture that the image processor cannot take."""

    def __init__(
        self, picture: Picture, size: tuple[int, int], processor: HfProcessor, reason: Exception
    ) -> None:
        called = picture.name.removeprefix("picture ")  # "picture in memory" where it has no file
        super().__init__(
            f"The picture {called} ({size[0]} × {size[1]} pixels) cannot be used with this "
            f"model: its {type(processor).__name__} says: {first_line(reason)} Give it in another "
            "size, or leave it out."
        )
        self.picture = picture
