"""Vectors in 8 or 4 bits a number, with a scale and an offset of a byte each for every vector.

Each vector is turned by a Hadamard matrix first, which spreads what single channels stand out by
over all of them. Knows vectors only: neither keys nor positions.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor

Store = Literal["int8", "int4"]
STORES: tuple[Store, ...] = get_args(Store)
BITS: dict[str, int] = {"int8": 8, "int4": 4}
BESIDE = 2
"""Bytes a vector takes beside its codes: scale and offset."""

_HOST = torch.device("cpu")
_OCTAVE = 8  # scales an octave
_ONE = 128  # the scale's byte that means 1
_NARROWER = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Ranges tried for each vector, as shares of its own: cutting the largest numbers off may cost less
than coarser steps for all."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors in few bits.

    ```python
    packed = Vectors.of(torch.randn(10, 64), "int4")
    packed.nbytes, packed.plain().shape                  # 340, (10, 64)
    ```

    A number is scale · (code − half + offset), half being 8 or 128, of the vector times the
    Hadamard matrix; scale is 2 ** ((byte − 128) / 8).

    Attributes:
        rows: (vectors, ⌈size · bits / 8⌉ + 2) uint8: codes (with 4 bits the even channel is the low
            half of a byte), the scale's byte, the offset's (signed).
        size: numbers in a vector.
        store: "int8" or "int4".
    """

    rows: Tensor
    size: int
    store: Store

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.shape[1] != row_bytes(self.size, self.store):
            raise ValueError(f"packed vectors of shape {tuple(self.rows.shape)}")

    @classmethod
    def of(cls, vectors: Tensor, store: Store) -> "Vectors":
        """Pack vectors (vectors, size) of any floating dtype.

        Raises:
            ValueError: a number is not finite, or too large for a scale.
        """
        given = vectors.detach().float()
        if not bool(given.isfinite().all()):
            raise ValueError("a number is infinite or none")
        turned = given @ hadamard(given.shape[1], given.device)
        bits = BITS[store]
        scales, offsets, codes = _best(turned, bits)
        beside = torch.stack([scales, offsets.view(torch.uint8)], 1)
        return cls(torch.cat([_joined(codes, bits), beside], 1), given.shape[1], store)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.rows.nbytes

    def to(self, device: torch.device | str | None) -> "Vectors":
        """The same vectors on another device, still packed."""
        return replace(self, rows=self.rows.to(device=device))

    def plain(self) -> Tensor:
        """The vectors, (vectors, size) float32."""
        bits = BITS[self.store]
        codes = _apart(self.rows[:, :-BESIDE], bits, self.size).float()
        offsets = self.rows[:, -1:].contiguous().view(torch.int8).float()
        turned = _scale(self.rows[:, -2]) * (codes - _half(bits) + offsets)
        return turned @ hadamard(self.size, turned.device)


def _best(turned: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scales, offsets and codes: of the ranges tried, each vector's with the least error."""
    most = 2**bits - 1
    low, high = turned.amin(1), turned.amax(1)
    middle, width = (low + high) / 2, high - low
    least = torch.full_like(width, torch.inf)
    chosen: list[Tensor] = []
    for share in _NARROWER:
        wanted = torch.maximum(share * width / most, middle.abs() / 127)
        steps = (_OCTAVE * wanted.clamp(min=2.0**-15).log2()).ceil() + _ONE
        if bool((steps > 255).any()):
            raise ValueError(f"a number of size {float(turned.abs().max()):.3g} is too large")
        scales = steps.clamp(min=0).to(torch.uint8)
        scale = _scale(scales)
        offsets = (middle / scale[:, 0]).round().clamp(-128, 127)
        shift = _half(bits) - offsets[:, None]
        codes = (turned / scale + shift).round().clamp(0, most)
        error = ((codes - shift) * scale - turned).square().sum(1)
        found = [scales, offsets.to(torch.int8), codes.to(torch.uint8)]
        if not chosen:
            chosen = found
        better = error < least
        least = torch.where(better, error, least)
        chosen = [
            torch.where(better.view(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(found, chosen, strict=True)
        ]
    return chosen[0], chosen[1], chosen[2]


def _scale(scales: Tensor) -> Tensor:
    return torch.exp2((scales.float() - _ONE) / _OCTAVE)[:, None]


def _half(bits: int) -> int:
    return int(2 ** (bits - 1))


def _joined(codes: Tensor, bits: int) -> Tensor:
    if bits == 8:
        return codes
    even, odd = codes[:, ::2], codes[:, 1::2]
    return even | (torch.nn.functional.pad(odd, (0, even.shape[1] - odd.shape[1])) << 4)


def _apart(codes: Tensor, bits: int, size: int) -> Tensor:
    if bits == 8:
        return codes
    return torch.stack([codes & 15, codes >> 4], -1).flatten(1)[:, :size]


def row_bytes(size: int, store: Store) -> int:
    """Bytes that a packed vector takes."""
    return math.ceil(size * BITS[store] / 8) + BESIDE


@cache
def hadamard(size: int, device: torch.device = _HOST) -> Tensor:
    """Return (size, size) orthonormal Hadamard blocks, each of the largest power of two that
    divides `size`; symmetric, so its own inverse. Brought to each device once."""
    if device != _HOST:
        return hadamard(size).to(device)
    block = torch.ones(1, 1)
    while size % (2 * block.shape[0]) == 0:
        block = torch.cat([torch.cat([block, block], 1), torch.cat([block, -block], 1)], 0)
    return torch.block_diag(*[block / math.sqrt(block.shape[0])] * (size // block.shape[0]))
