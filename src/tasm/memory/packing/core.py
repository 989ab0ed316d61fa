"""A whole core in few bits: its layers, its token table, the gate's reference.

What is asked of it is unpacked when asked and not kept. Knows tensors; nothing of files or models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import torch
from torch import Tensor

from tasm.backbone.attention.rotary import Rotary
from tasm.backbone.attention.segment import Segment
from tasm.backbone.geometry import LayerKind
from tasm.memory.asked import KeptQueries
from tasm.memory.core_tensors import CoreTensors, Counts
from tasm.memory.layer import LayerTokens
from tasm.memory.packing.integers import deflated, inflated
from tasm.memory.packing.layer import PackedTokens, means_that_pay
from tasm.memory.packing.rotation import Rotation
from tasm.memory.packing.segment import packed_segment
from tasm.memory.packing.vectors import Store
from tasm.memory.tokens import TokenTable

_PLACE = 4


@dataclass(frozen=True, eq=False)
class PackedTable:
    """A token table as one stream: rows of positions, roles, demonstration, the four of place.

    ```python
    len(PackedTable.of(table).stream), len(table)                # 506, 1100
    ```
    """

    stream: Tensor
    rows: int
    tokens: int

    @classmethod
    def of(cls, table: TokenTable) -> "PackedTable":
        """Pack a table."""
        columns = [table.positions, table.roles[None], table.demonstration[None], table.place.T]
        whole = torch.cat([column.cpu().to(torch.int32) for column in columns])
        return cls(deflated(whole), table.positions.shape[0], len(table))

    def plain(self) -> TokenTable:
        """The table; raises ValueError where the stream is damaged."""
        try:
            whole = inflated(self.stream, (self.rows + 2 + _PLACE, self.tokens))
        except ValueError as error:
            raise ValueError(
                f"the token table is not one of {self.tokens} tokens (logical_length) and "
                f"{self.rows} rows of positions (position_rows): {error}"
            ) from None
        positions, roles, owner, place = whole.split([self.rows, 1, 1, _PLACE])
        if whole.numel() and (
            int(roles.min()) < 0 or int(roles.max()) > 255 or int(place.abs().max()) >= 2**15
        ):
            raise ValueError("the token table names roles or places that there are not")
        return TokenTable.make(positions, roles[0], owner[0], place.T.contiguous())


@dataclass(frozen=True, eq=False)
class Unpacking:
    """How packed layers become plain: where their tokens stood, and how the model rotates.

    Attributes:
        table: of the whole transcript.
        rotations: one for each kind of layer.
        kinds: of each layer.
        dtype: of the keys and values unpacked.
    """

    table: PackedTable
    rotations: Mapping[LayerKind, Rotation]
    kinds: tuple[LayerKind, ...]
    dtype: torch.dtype

    def plain(self, layer: int, packed: PackedTokens) -> LayerTokens:
        """A layer's tokens; raises ValueError where something is damaged."""
        positions = self.table.plain().positions
        return packed.plain(positions, self.rotations[self.kinds[layer]], self.dtype)


class UnpackedLayers(Sequence[LayerTokens | None]):
    """Packed layers that are unpacked each time they are looked at."""

    def __init__(self, layers: Sequence[PackedTokens | None], unpacking: Unpacking) -> None:
        self._layers, self._unpacking = tuple(layers), unpacking

    def __len__(self) -> int:
        return len(self._layers)

    @overload
    def __getitem__(self, number: int) -> LayerTokens | None: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[LayerTokens | None]: ...
    def __getitem__(self, number: int | slice) -> LayerTokens | Sequence[LayerTokens | None] | None:
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        packed = self._layers[number]
        place = range(len(self))[number]
        return None if packed is None else self._unpacking.plain(place, packed)


@dataclass(frozen=True, eq=False)
class PackedCore:
    """What `CoreTensors` are, in few bits.

    Attributes:
        packed: what each layer keeps, or None.
        unpacking: what it takes to read them; holds the token table and the rotations.
        halves: the gate's reference of each layer, float16, or None.
        states: of linear-attention layers, as they are.
        asked: as they are.
        store: "int8" or "int4".
    """

    packed: tuple[PackedTokens | None, ...]
    unpacking: Unpacking
    halves: tuple[Tensor | None, ...]
    states: tuple[Mapping[str, Tensor] | None, ...]
    store: Store
    asked: KeptQueries | None = None

    @property
    def layers(self) -> Sequence[LayerTokens | None]:
        """What each layer keeps, unpacked when looked at."""
        return UnpackedLayers(self.packed, self.unpacking)

    def segment(
        self, layer: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> Segment | None:
        """What attention reads of a layer, still packed; None where it keeps nothing."""
        packed, here = self.packed[layer], self.unpacking
        if packed is None or not max(packed.counts):
            return None
        rotation = here.rotations[here.kinds[layer]]
        positions = here.table.plain().positions
        return packed_segment(packed, positions, rotation, device, dtype or here.dtype)

    @property
    def tokens(self) -> TokenTable:
        """The transcript's table, unpacked."""
        return self.unpacking.table.plain()

    @cached_property
    def distributions(self) -> tuple[Tensor | None, ...]:
        """The gate's reference, float32."""
        return tuple(None if half is None else half.float() for half in self.halves)

    @property
    def counts(self) -> Counts:
        """Tokens of every layer and KV head."""
        return tuple(None if layer is None else layer.counts for layer in self.packed)

    @property
    def dtype(self) -> str:
        """The dtype that keys and values are unpacked to."""
        return str(self.unpacking.dtype).removeprefix("torch.")

    @property
    def nbytes(self) -> int:
        """Bytes of every packed tensor."""
        states = sum(part.nbytes for state in self.states if state for part in state.values())
        held = [layer for layer in self.packed if layer is not None]
        whole = [layer for layer in held if layer.has_all_means]
        # Where one layer lacks a mean, every layer says which it has.
        said = 0 if len(whole) == len(held) else sum(layer.means_bytes for layer in whole)
        return (
            sum(layer.nbytes for layer in held)
            + said
            + self.unpacking.table.stream.nbytes
            + sum(rotation.nbytes for rotation in self.unpacking.rotations.values())
            + sum(half.nbytes for half in self.halves if half is not None)
            + (0 if self.asked is None else self.asked.nbytes)
            + states
        )


Core = CoreTensors | PackedCore
"""What every answer needs of a memory, in whatever form it is held."""


def packed_core(
    core: Core,
    store: Store,
    rotary: Rotary,
    kinds: Sequence[LayerKind],
    dtype: torch.dtype,
) -> PackedCore:
    """Pack a core, rotations read off the model's own.

    Raises:
        ValueError: names the layer whose keys or values are not finite, or too large.
    """
    table = core.tokens
    rotations: dict[LayerKind, Rotation] = {}
    packed: list[PackedTokens | None] = []
    for number, kind in enumerate(kinds):
        layer = core.layers[number]
        if layer is not None and kind not in rotations:
            rows, size = table.positions.shape[0], layer.keys.shape[-1]
            rotations[kind] = Rotation.read(rotary, number, size, rows)
        try:
            packed.append(
                None
                if layer is None
                else PackedTokens.of(layer, store, table.positions, rotations[kind], means_that_pay)
            )
        except ValueError as error:
            raise ValueError(f"layer {number}: {error}") from None
    return PackedCore(
        tuple(packed),
        Unpacking(PackedTable.of(table), rotations, tuple(kinds), dtype),
        tuple(None if one is None else one.half() for one in core.distributions),
        tuple(core.states),
        store,
        core.asked,
    )
