"""Where a memory kept its tokens: shares per token, and pictures of them.

It counts entries of a memory; it knows neither scores nor HTML.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from tasm.memory import LayerTokens, TaskMemory

Shares = NDArray[np.float32]
Colour = tuple[int, int, int]
CORE_COLOUR: Colour = (245, 130, 32)
BANK_COLOUR: Colour = (38, 132, 255)
STRONGEST = 0.72  # opacity of a token that every head keeps, so that the picture stays visible
STEPS = 15  # a palette of sixteen takes half a byte a token


@dataclass(frozen=True)
class HeatMap:
    """One picture's tokens: the share of KV heads that keep each, per layer.

    `core` and `bank` are (layers, h, w) in [0, 1]. Frames and tiles of one picture (several t) are
    averaged.
    """

    core: Shares
    bank: Shares


def kept_shares(memory: "TaskMemory") -> tuple[Shares, Shares]:
    """Return, for the core and for the bank, the share of KV heads that keep each token.

    Both are (layers, transcript tokens) in [0, 1]; a layer without a part has zeros.

    ```python
    core, bank = kept_shares(memory)
    core.mean(0)[memory.tokens.roles == Role.IMAGE].mean()      # how many image tokens are kept
    ```
    """
    tokens = len(memory.tokens)
    banked = [None] * len(memory.core) if memory.bank is None else list(memory.bank.layers)
    held = [None if layer is None else layer.held() for layer in banked]
    return _shares(memory.core, tokens), _shares(held, tokens)


def heat_maps(memory: "TaskMemory", core: Shares, bank: Shares) -> list[HeatMap]:
    """Return one heat map a picture, in the order of the demonstrations' pictures.

    `core` and `bank` are what `kept_shares` gave.
    """
    places = memory.tokens.place.cpu().numpy()
    count = int(places[:, 0].max()) + 1 if len(places) else 0
    maps = []
    for picture in range(count):
        here = np.flatnonzero((places[:, 0] == picture) & (places[:, 2] >= 0))
        rows, columns = places[here, 2], places[here, 3]
        shape = (int(rows.max()) + 1, int(columns.max()) + 1) if len(here) else (1, 1)
        maps.append(
            HeatMap(
                _on_grid(core[:, here], rows, columns, shape),
                _on_grid(bank[:, here], rows, columns, shape),
            )
        )
    return maps


def as_sprite(
    shares: Shares, colour: Colour, *, strongest: float = STRONGEST, row_height: int = 1
) -> str:
    """Return a PNG data URI: the mean over layers, then every layer, one below the other.

    `shares` is (layers, h, w); colour stays, opacity (`strongest` at most) says how much is kept.
    Each layer's rows stand at the top of `row_height` rows, the others are clear.
    """
    stacked = np.concatenate([shares.mean(0, keepdims=True), shares])
    layers, height, width = stacked.shape
    levels = np.ceil(STEPS * np.clip(stacked, 0, 1) - 1e-6).astype(np.uint8)
    pixels = np.zeros((layers, max(height, row_height), width), np.uint8)
    pixels[:, :height] = levels
    image = Image.fromarray(pixels.reshape(-1, width))
    image = image.convert("P")
    image.putpalette(list(colour) * (STEPS + 1))
    opacity = bytes(round(255 * strongest * step / STEPS) for step in range(STEPS + 1))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, bits=4, transparency=opacity)
    return data_uri(buffer.getvalue(), "image/png")


def data_uri(content: bytes, kind: str) -> str:
    """Return bytes as a data URI of a media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _shares(layers: "Sequence[LayerTokens | None]", tokens: int) -> Shares:
    shares = np.zeros((len(layers), tokens), np.float32)
    for number, layer in enumerate(layers):
        if layer is None:
            continue
        index = layer.index.cpu().numpy()
        for head, count in enumerate(layer.counts):
            # A merged layer may name one sink once only, so plain counting is enough.
            np.add.at(shares[number], index[head, :count], 1 / layer.kv_heads)
    return np.clip(shares, 0, 1)


def _on_grid(
    shares: Shares, rows: NDArray[np.int16], columns: NDArray[np.int16], shape: tuple[int, int]
) -> Shares:
    grid = np.zeros((len(shares), *shape), np.float32)
    count = np.zeros(shape, np.float32)
    for token, (row, column) in enumerate(zip(rows, columns, strict=True)):
        grid[:, row, column] += shares[:, token]
        count[row, column] += 1
    return (grid / np.maximum(count, 1)).astype(np.float32)
