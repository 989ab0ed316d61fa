"""transformers' own quantised cache beside tasm's packing, on the tokens of a memory.

`QuantizedCache` with its two backends, quanto and HQQ, and its defaults: groups of 64 numbers of a
tensor, a scale and a zero of 16 bits each. Neither is a dependency; install them in an environment
of their own: `pip install optimum-quanto hqq accelerate`. The residual window is left out, because
a memory does not grow.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tasm.memory import TaskMemory

GROUP = 64
SCALES = 4
"""Bytes of a group's scale and zero."""


def quantised_cache(memory: TaskMemory, backend: str, bits: int) -> tuple[TaskMemory, int]:
    """Return the memory with the core's keys and values as the cache would give them back, and the
    bytes that they would take, indices, biases and table as they are."""
    round_trip = _round_trip(backend, bits)
    layers, size, before = [], 0, 0
    for layer in memory.core:
        if layer is None:
            layers.append(None)
            continue
        if layer.lengths is not None:
            raise SystemExit("transformers' cache holds as many tokens in every head.")
        dtype = layer.keys.dtype
        keys, values = (round_trip(part.float()).to(dtype) for part in (layer.keys, layer.values))
        layers.append(replace(layer, keys=keys, values=values))
        before += layer.keys.nbytes + layer.values.nbytes
        numbers = layer.keys.numel() + layer.values.numel()
        size += math.ceil(numbers * bits / 8) + SCALES * math.ceil(numbers / GROUP)
    return memory.replaced(core=layers), size + memory.core_bytes - before


def _round_trip(backend: str, bits: int) -> Callable[[Tensor], Tensor]:
    from transformers.cache_utils import HQQQuantizedLayer, QuantoQuantizedLayer

    kinds: dict[str, Any] = {"quanto": QuantoQuantizedLayer, "hqq": HQQQuantizedLayer}
    cache = kinds[backend](nbits=bits, q_group_size=GROUP)
    cache.keys = torch.empty(0)

    def there_and_back(vectors: Tensor) -> Tensor:
        packed = cache._quantize(vectors[None].contiguous(), axis=0)
        restored: Tensor = cache._dequantize(packed)[0]
        return restored.reshape(vectors.shape)

    return there_and_back
