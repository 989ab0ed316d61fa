"""A bank in few bits: a layer is unpacked when it is first searched, and then held.

Knows packed layers; not where they come from.
"""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from tasm.memory.layer import LayerTokens
from tasm.memory.packing.core import PackedCore
from tasm.memory.packing.layer import PackedTokens, every_mean
from tasm.memory.retrieval.bank import Bank, HeldLayer


class PackedBankLayer:
    """One layer of a packed bank; see `BankLayer`.

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
        self.packed, self.counts, self.dtype, self.nbytes = packed, counts, dtype, nbytes
        self._plain = plain

    @property
    def device(self) -> torch.device:
        """Host memory."""
        return torch.device("cpu")

    @cached_property
    def _held(self) -> HeldLayer:
        return HeldLayer(self._plain())

    def block(self, start: int, stop: int) -> Tensor:
        """Keys of a range."""
        return self._held.block(start, stop)

    def keys_at(self, head: int, rows: Tensor) -> Tensor:
        """Keys of one head's rows."""
        return self._held.keys_at(head, rows)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys, values and index of chosen rows."""
        return self._held.take(rows)

    def indices(self) -> Tensor:
        """Places in the transcript."""
        return self._held.indices()

    def held(self) -> LayerTokens:
        """The tokens unpacked."""
        return self._held.tokens


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
