"""Keys and values of a memory in another dtype. Knows tensors only."""

import torch

from tasm.errors import InputError
from tasm.memory.layer import LayerTokens
from tasm.memory.retrieval.bank import Bank


def convert(tokens: LayerTokens | None, dtype: torch.dtype) -> LayerTokens | None:
    """A layer's keys and values in `dtype`.

    Raises:
        InputError: one of them is too large for it.
    """
    if tokens is None:
        return None
    narrowed = tokens.to(dtype=dtype)
    for name, before, after in (
        ("key", tokens.keys, narrowed.keys),
        ("value", tokens.values, narrowed.values),
    ):
        if bool(after.isinf().any()):
            raise InputError(
                f"A {name} of size {before.abs().max():.0f} does not fit {dtype}, which ends at "
                f"{torch.finfo(dtype).max:.0f}. Store the memory as bfloat16 or float32."
            )
    return narrowed


def convert_bank(bank: Bank | None, dtype: torch.dtype) -> Bank | None:
    """A bank's keys and values in `dtype`, held in memory."""
    if bank is None:
        return None
    layers = [None if layer is None else convert(layer.held(), dtype) for layer in bank.layers]
    return Bank(layers)
