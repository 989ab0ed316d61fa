"""Where each image token lies on its image: (t, h, w) on the merged grid.

Arithmetic on counts and strings; it knows no model. Where an image's tokens do not add up to what
the family's layout says, they are laid in one row, which keeps them apart and in order.
"""

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from tasm.backbone.checkpoint.families import Places

_TAG = re.compile(r"<row_(\d+)_col_(\d+)>$")


def places_of(
    layout: Places,
    expansion: str,
    image_token: str,
    *,
    grid: tuple[int, int, int] | None = None,
    tiles: int = 1,
    size: tuple[int, int] | None = None,
    pinpoints: Sequence[Sequence[int]] = (),
    base: int = 0,
    largest: int | None = None,
) -> Tensor:
    """Return the (tokens, 3) int32 places of an image's tokens, in their order.

    `expansion` is the text that stands for the image, `grid` its (t, h, w) in patches before
    merging, `tiles` how many pictures the vision tower sees, `size` its (height, width) in
    pixels, `pinpoints` the resolutions of LLaVA-NeXT, `base` the side of its base square in
    tokens, `largest` how many base squares the finer grid may fill (LLaVA-OneVision).

    ```python
    >>> places_of("square", "<i>" * 4, "<i>").tolist()
    [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]
    ```
    """
    count = expansion.count(image_token)
    found: Tensor | None = None
    if grid is not None:  # also an unlisted family whose processor reports a grid
        found = _merged(grid, count)
    elif layout == "rows":
        found = _rows(_runs(expansion, image_token))
    elif layout == "tiles":
        found = _tiles(expansion, image_token)
    elif layout == "anyres" and size is not None:
        found = _anyres(count, size, pinpoints, base, largest)
    if found is None:
        found = _squares(count, max(tiles, len(_runs(expansion, image_token))))
    return found if found.shape[0] == count else _grid(1, 1, count)


def _grid(t: int, h: int, w: int) -> Tensor:
    axes = (torch.arange(length, dtype=torch.int32) for length in (t, h, w))
    return torch.cartesian_prod(*axes).reshape(-1, 3)


def _merged(grid: tuple[int, int, int], count: int) -> Tensor | None:
    t, h, w = grid
    merge = math.isqrt(max(1, t * h * w // max(count, 1)))
    return _grid(t, h // merge, w // merge)


def _runs(expansion: str, image_token: str) -> list[tuple[str, int]]:
    """Each run of image tokens: the text before it, and its length."""
    runs = []
    before = ""
    for piece in re.split(f"((?:{re.escape(image_token)})+)", expansion):
        if piece.startswith(image_token):
            runs.append((before, len(piece) // len(image_token)))
        before = piece
    return runs


def _rows(runs: Sequence[tuple[str, int]]) -> Tensor | None:
    widths = {width for _, width in runs}
    return _grid(1, len(runs), widths.pop()) if len(widths) == 1 else None


def _squares(count: int, tiles: int) -> Tensor:
    side = math.isqrt(count // tiles) if tiles else 0
    return _grid(tiles, side, side)


def _tiles(expansion: str, image_token: str) -> Tensor | None:
    """Tiles on one fine grid (t = 0), then the whole image (t = 1)."""
    found: list[Tensor] = []
    for before, length in _runs(expansion, image_token):
        side = math.isqrt(length)
        square = _grid(1, side, side)
        if square.shape[0] != length:
            return None
        tag = _TAG.search(before)
        if tag is not None:
            square += torch.tensor(
                [0, (int(tag[1]) - 1) * side, (int(tag[2]) - 1) * side], dtype=torch.int32
            )
        elif found:
            square[:, 0] = 1
        found.append(square)
    return torch.cat(found) if found else None


def _anyres(
    count: int,
    size: tuple[int, int],
    pinpoints: Sequence[Sequence[int]],
    base: int,
    largest: int | None,
) -> Tensor | None:
    """The whole image (t = 0), then the finer grid (t = 1) whose rows end in a newline token.

    Source: transformers, `LlavaNextProcessor._get_number_of_features` and its OneVision variant.
    """
    whole = _grid(1, base, base)
    if count == base * base + 1:  # one square and one newline: an image among several
        return torch.cat([whole, torch.tensor([[0, base - 1, base]], dtype=torch.int32)])
    for height, width in _fine_grids(size, pinpoints, base, largest):
        if count == base * base + height * (width + 1):
            fine = _grid(1, height, width + 1)
            fine[:, 0] = 1
            return torch.cat([whole, fine])
    return None


def _fine_grids(
    size: tuple[int, int], pinpoints: Sequence[Sequence[int]], base: int, largest: int | None
) -> list[tuple[int, int]]:
    height, width = size
    found = []
    smallest = min((min(point) for point in pinpoints), default=1)
    for rows, columns in pinpoints:
        h, w = rows // smallest * base, columns // smallest * base
        if width / height > w / h:
            h -= (h - int(round(height * (w / width), 7))) // 2 * 2
        else:
            w -= (w - int(round(width * (h / height), 7))) // 2 * 2
        ratio = math.sqrt(h * w / (largest * base**2)) if largest else 1.0
        found.append((int(h // ratio), int(w // ratio)) if ratio > 1.1 else (h, w))
    # The right resolution is the one whose count matches; the largest first, where several do.
    return sorted(set(found), key=lambda shape: -shape[0] * shape[1])
