"""A memory's demonstrations in parts that can be taken apart and put together without a model.

A shard is some demonstrations' kept tokens. Where no later key has seen them, it can go; whatever
stays moves to other positions by rotating its keys back and forth. Knows layers and tables, not how
tokens were chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tasm.backbone.attention.rotary import Rotary
from tasm.memory.asked import KeptQueries, joined_queries
from tasm.memory.described import DescribedMemory
from tasm.memory.entry import DemonstrationEntry
from tasm.memory.layer import LayerTokens
from tasm.memory.tokens import TokenTable

Layers = tuple[LayerTokens | None, ...]


@dataclass(frozen=True, eq=False)
class Shard:
    """Kept tokens of some demonstrations that follow each other, counted from their own start.

    Attributes:
        core, bank: one entry a layer; `index` points into `tokens`. None where nothing is kept.
        tokens: the table of all their tokens, kept or not; positions as the keys are rotated,
            demonstrations and images counted from 0. Tokens of demonstration -1 are the head
            (system prompt and BOS), with which a memory begins.
        entries: what is known of each demonstration, spans counted from the shard's start.
        asked: queries kept for the gate, tokens counted from the shard's start.
    """

    core: Layers
    bank: Layers
    tokens: TokenTable
    entries: tuple[DemonstrationEntry, ...]
    asked: KeptQueries | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def first_position(self) -> int:
        """Position of its first token."""
        return int(self.tokens.positions[:, 0].min())

    @property
    def next_position(self) -> int:
        """Position of what would follow."""
        return int(self.tokens.positions.max()) + 1

    @property
    def images(self) -> int:
        """How many images its tokens show."""
        return int(self.tokens.place[:, 0].max()) + 1

    def to(self, like: LayerTokens) -> "Shard":
        """The same shard on the device, and in the dtype, of another memory's layer."""
        device, dtype = like.keys.device, like.keys.dtype
        core, bank = (
            tuple(None if one is None else one.to(device, dtype) for one in layers)
            for layers in (self.core, self.bank)
        )
        return replace(self, core=core, bank=bank)


def head_of(memory: DescribedMemory) -> Shard:
    """Return the system prompt's tokens alone."""
    end = memory.demonstrations[0].spans[0][0] if memory.demonstrations else len(memory.tokens)
    return _cut(memory, 0, end, 0, 0)


def shard_of(memory: DescribedMemory, first: int, stop: int) -> Shard:
    """Return demonstrations `first` to `stop - 1` of a memory.

    ```python
    compose([head_of(memory), shard_of(memory, 0, 3), shard_of(memory, 4, 9)], rotary)
    ```
    """
    start = memory.demonstrations[first].spans[0][0]
    return _cut(memory, start, memory.demonstrations[stop - 1].spans[-1][1], first, stop)


def _cut(memory: DescribedMemory, start: int, end: int, first: int, stop: int) -> Shard:
    """Transcript tokens `start` to `end - 1`, which are demonstrations `first` to `stop - 1`."""
    table, bank = memory.tokens, memory.bank
    banked = [None] * len(memory.core) if bank is None else bank.layers
    return Shard(
        core=tuple(between(layer, start, end) for layer in memory.core),
        bank=tuple(None if one is None else between(one.held(), start, end) for one in banked),
        tokens=TokenTable.make(
            table.positions[:, start:end],
            table.roles[start:end],
            _counted_from(table.demonstration[start:end], -first),
            _images_from(table.place[start:end], None),
        ),
        entries=tuple(_moved(one, -start) for one in memory.demonstrations[first:stop]),
        asked=None if memory.asked is None else memory.asked.between(start, end),
    )


def compose(shards: Sequence[Shard], rotary: Rotary) -> Shard:
    """Put shards one after another; each moves to where the one before it ends.

    Keys that move are rotated back and on in float32; others stay as they are, bit for bit. Shards
    without any token are left out.
    """
    moved: list[Shard] = []
    starts, images, demonstrations = [0], 0, 0
    tables: list[TokenTable] = []
    for shard in (one for one in shards if len(one)):
        here = _at(shard, moved[-1].next_position, rotary) if moved else shard
        table = here.tokens
        tables.append(
            TokenTable.make(
                table.positions,
                table.roles,
                _counted_from(table.demonstration, demonstrations),
                _images_from(table.place, images),
            )
        )
        moved.append(here)
        starts.append(starts[-1] + len(here))
        images += here.images
        demonstrations += len(here.entries)
    core, bank = (
        tuple(_joined(layers, starts) for layers in zip(*parts, strict=True))
        for parts in ([one.core for one in moved], [one.bank for one in moved])
    )
    entries = [
        _moved(entry, start)
        for one, start in zip(moved, starts, strict=False)
        for entry in one.entries
    ]
    asked = joined_queries([one.asked for one in moved], starts[:-1])
    return Shard(core, bank, joined_tables(tables), tuple(entries), asked)


def joined_tables(tables: Sequence[TokenTable]) -> TokenTable:
    """One table of several, one after another."""
    return TokenTable.make(
        positions=torch.cat([table.positions for table in tables], 1),
        roles=torch.cat([table.roles for table in tables]),
        demonstration=torch.cat([table.demonstration for table in tables]),
        place=torch.cat([table.place for table in tables]),
    )


def _counted_from(demonstration: Tensor, by: int) -> Tensor:
    """Numbers of demonstrations moved by `by`; the head's -1 stays."""
    return torch.where(demonstration >= 0, demonstration + by, demonstration)


def _images_from(place: Tensor, first: int | None) -> Tensor:
    """Images counted on from `first`, or from 0 whatever they were."""
    seen = place[:, 0] >= 0
    if not bool(seen.any()):
        return place
    by = -int(place[seen, 0].min()) if first is None else first
    numbered = place.clone()
    numbered[:, 0] = torch.where(seen, place[:, 0] + by, place[:, 0])
    return numbered


def between(layer: LayerTokens | None, start: int, end: int) -> LayerTokens | None:
    """Return the entries of transcript tokens `start` to `end - 1`, counted from `start`; None
    where there are none."""
    if layer is None:
        return None
    wanted = (layer.index >= start) & (layer.index < end)
    if layer.padding is not None:
        wanted &= ~layer.padding
    if not bool(wanted.any()):
        return None
    found = layer.where(wanted)
    return replace(found, index=(found.index - start).clamp(min=0))


def _joined(layers: Sequence[LayerTokens | None], starts: Sequence[int]) -> LayerTokens | None:
    """All entries of one layer, counted from the first shard's start."""
    held = [
        replace(layer, index=layer.index + start)
        for layer, start in zip(layers, starts, strict=False)
        if layer is not None
    ]
    if not held:
        return None
    return held[0].joined(*held[1:]).settled() if len(held) > 1 else held[0].settled()


def _at(shard: Shard, position: int, rotary: Rotary) -> Shard:
    """The same shard with its first token at `position`."""
    by = position - shard.first_position
    if by == 0:
        return shard
    positions = shard.tokens.positions
    shifts = torch.full_like(positions[0], by)
    return replace(
        shard,
        core=turned(shard.core, positions, shifts, rotary),
        bank=turned(shard.bank, positions, shifts, rotary),
        tokens=replace(shard.tokens, positions=positions + by),
    )


def turned(
    layers: Sequence[LayerTokens | None], positions: Tensor, by: Tensor, rotary: Rotary
) -> Layers:
    """Return layers with keys turned from `positions` (rows, tokens of the table), on by `by`
    (tokens,); those that stay are bit for bit what they were."""
    found: list[LayerTokens | None] = []
    for number, layer in enumerate(layers):
        if layer is not None:
            device, index = layer.keys.device, layer.index.to(positions.device).long()
            at, shift = (each.long()[..., index].to(device) for each in (positions, by))
            plain = rotary.unrotate(number, layer.keys.float(), at)
            keys = rotary.rotate(number, plain, at + shift).to(layer.keys.dtype)
            layer = replace(layer, keys=torch.where(shift[..., None] == 0, layer.keys, keys))
        found.append(layer)
    return tuple(found)


def _moved(entry: DemonstrationEntry, by: int) -> DemonstrationEntry:
    return replace(entry, spans=tuple((start + by, end + by) for start, end in entry.spans))
