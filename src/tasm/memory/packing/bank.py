"""A bank in few bits: a layer is unpacked when it is first searched, and then held.

Knows packed layers; not where they come from.
"""

from collections.abc import Callable
from functools import cached_property

import torch

from tasm.memory.layer import LayerTokens
from tasm.memory.packing.core import PackedCore
from tasm.memory.packing.layer import PackedTokens, every_mean
from tasm.memory.retrieval.bank import Bank
from tasm.memory.retrieval.bank_layer import BankLayer


class PackedBankLayer(BankLayer):
    """One layer of a packed bank, in host memory.

    Args:
        packed: returns its tokens as they are stored.
        plain: returns them unpacked, checked where they come from a file.
        counts: tokens of each KV head.
        dtype: of keys and values once unpacked.
        nbytes: of the packed tensors.
    """

    def __init__(
        self,
        packed: Callable[[], PackedTokens],
        plain: Callable[[], LayerTokens],
        counts: tuple[int, ...],
        dtype: torch.dtype,
        nbytes: int,
    ) -> None:
        super().__init__(counts, dtype)
        self.packed, self._plain, self._nbytes = packed, plain, nbytes

    @property
    def nbytes(self) -> int:
        """Of the packed tensors."""
        return self._nbytes

    @cached_property
    def _held(self) -> LayerTokens:
        return self._plain()

    def held(self) -> LayerTokens:
        """The tokens unpacked."""
        return self._held


def packed_bank(bank: Bank, core: PackedCore) -> Bank:
    """Pack a bank as the core beside it is packed.

    Raises:
        ValueError: names the layer whose keys or values are not finite, or too large.
    """
    positions, unpacking = core.tokens.positions, core.unpacking
    layers: list[PackedBankLayer | None] = []
    for number, layer in enumerate(bank.layers):
        if layer is None:
            layers.append(None)
            continue
        rotation = unpacking.rotations[unpacking.kinds[number]]
        try:
            made = PackedTokens.of(layer.held(), core.store, positions, rotation, every_mean)
        except ValueError as error:
            raise ValueError(f"layer {number} of the bank: {error}") from None
        layers.append(_in_memory(number, made, core))
    return Bank(layers)


def _in_memory(number: int, tokens: PackedTokens, core: PackedCore) -> PackedBankLayer:
    return PackedBankLayer(
        lambda: tokens,
        lambda: core.unpacking.plain(number, tokens),
        tokens.counts,
        core.unpacking.dtype,
        tokens.nbytes,
    )
