"""A published quantiser of keys and values beside tasm's own: KIVI, on the tokens of a memory.

KIVI (Liu et al., arXiv 2402.02750): keys per channel over groups of 32 tokens, as the cache holds
them (after rotation); values per token over groups of 32 channels; scale and zero of 16 bits each.
Differs from the paper in: no residual window, because a memory does not grow; a last group of fewer
tokens has its own scale and zero.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from tasm.memory import LayerTokens, TaskMemory

GROUP = 32


def kivi(memory: TaskMemory, bits: int) -> tuple[TaskMemory, int]:
    """Return the memory with the core's keys and values as KIVI would give them back, and the bytes
    that they would take: codes, scales, zeros, and the indices, biases and table as they are."""
    layers, size = [], 0
    for layer in memory.core:
        if layer is None:
            layers.append(None)
            continue
        quantised, taken = _layer(layer, bits)
        layers.append(quantised)
        size += taken
    beside = memory.core_bytes - sum(
        layer.keys.nbytes + layer.values.nbytes for layer in memory.core if layer is not None
    )
    return memory.replaced(core=layers), size + beside


def _layer(layer: LayerTokens, bits: int) -> tuple[LayerTokens, int]:
    keys, values, size = layer.keys.float().clone(), layer.values.float().clone(), 0
    channels = keys.shape[2]
    for head, count in enumerate(layer.counts):
        for start in range(0, count, GROUP):
            rows = slice(start, min(start + GROUP, count))
            keys[head, rows] = quantised(keys[head, rows], 0, bits)
        size += math.ceil(count * channels * bits / 8) + 4 * channels * math.ceil(count / GROUP)
        for start in range(0, channels, GROUP):
            columns = slice(start, start + GROUP)
            values[head, :count, columns] = quantised(values[head, :count, columns], 1, bits)
        size += math.ceil(count * channels * bits / 8) + 4 * count * math.ceil(channels / GROUP)
    dtype = layer.keys.dtype
    return replace(layer, keys=keys.to(dtype), values=values.to(dtype)), size


def quantised(numbers: Tensor, dimension: int, bits: int) -> Tensor:
    """Return numbers rounded to 2^bits even steps between the smallest and the largest along a
    dimension, both kept in 16 bits."""
    if numbers.numel() == 0:
        return numbers
    low = numbers.amin(dimension, keepdim=True).half().float()
    step = (numbers.amax(dimension, keepdim=True) - low) / (2**bits - 1)
    step = step.clamp(min=torch.finfo(torch.float16).tiny).half().float()
    return ((numbers - low) / step).round().clamp(0, 2**bits - 1) * step + low
