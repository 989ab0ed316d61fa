"""Random numbers that belong to a seed and a token, not to the moment they are drawn.

Each number is a hash of the build's seed, what it is for, the layer, the KV head and the token's
place in the transcript. So a token's number is the same whichever chunk it is read in, another seed
gives other numbers, and a repeated build the same ones. Knows no method.
"""

import hashlib

import torch
from torch import Tensor

_WORD = 1 << 64
_BITS = 24
"""Bits of a number: as many as float32 holds exactly."""


def uniform(seed: int, purpose: str, layer: int, index: Tensor) -> Tensor:
    """Return float32 numbers in [0, 1) for the tokens `index` (kv_heads, n) of a layer.

    ```python
    >>> once = uniform(0, "bank", 3, torch.arange(8).expand(2, -1))
    >>> torch.equal(once[:, 4:], uniform(0, "bank", 3, torch.arange(4, 8).expand(2, -1)))
    True
    ```
    """
    keys = [_key(f"{seed}:{purpose}:{layer}:{head}") for head in range(index.shape[0])]
    bits = _mixed(index.long() * _signed(0x9E3779B97F4A7C15) + _column(keys, index.device))
    return _shifted(bits, 64 - _BITS).to(torch.float32) / (1 << _BITS)


def normal(seed: int, purpose: str, layer: int, heads: int, size: int) -> Tensor:
    """Return (heads, size) float32 numbers of the standard normal distribution, on the CPU."""
    places = torch.arange(2 * size).expand(heads, -1)
    first, second = uniform(seed, purpose, layer, places).split(size, 1)
    return (-2 * (1 - first).log()).sqrt() * (2 * torch.pi * second).cos()


def _key(text: str) -> int:
    return _signed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()))


def _signed(word: int) -> int:
    """An unsigned word as the int64 of the same bits; torch's int64 wraps around."""
    return word - _WORD if word >= _WORD // 2 else word


def _column(keys: list[int], device: torch.device) -> Tensor:
    return torch.tensor(keys, dtype=torch.int64, device=device)[:, None]


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Shift right and fill with zeros, where `>>` would repeat the sign."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def _mixed(bits: Tensor) -> Tensor:
    """SplitMix64's finaliser: every bit of the result depends on every bit given."""
    bits = (bits ^ _shifted(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shifted(bits, 27)) * _signed(0x94D049BB133111EB)
    return bits ^ _shifted(bits, 31)
