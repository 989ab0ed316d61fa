"""What a method sees of one layer when it chooses: keys, values, what was recorded, what the tokens
are.

Knows neither models nor caches. Everything is per KV head, because after a chunk was compressed
every head keeps other tokens: entry `e` of head `h` is transcript token `index[h, e]`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from tasm.backbone.attention.kernels import numbers_at_once
from tasm.backbone.attention.rotary import Rotary
from tasm.backbone.prompt.transcript import Role
from tasm.compress.draws import uniform
from tasm.compress.records.record import Record
from tasm.compress.replay import ReadAgain, Replay
from tasm.memory.layer import LayerTokens
from tasm.memory.per_head import packed
from tasm.memory.tokens import TokenTable


@dataclass(frozen=True, eq=False)
class Evidence:
    """One layer, before it is reduced.

    | field | shape | |
    |---|---|---|
    | `layer`, `layers` | | number of this layer, and how many the model has |
    | `held` | | its entries, as every stage of a build hands them on |
    | `tokens` | | table of the transcript read so far, on the keys' device |
    | `records` | | what the recorder gathered, by record |
    | `replayed` | | what a replay gathered, by record, for scorers that ask for it |
    | `rotary` | | rotates keys as the model does |
    | `module` | | the model's decoder layer |
    | `scaling` | | factor of the attention logits |
    | `first_new` | | first transcript token of the newest chunk (0 in joint mode) |
    | `total` | | tokens of the whole transcript, also those not read yet |
    | `budget` | | entries a layer and head may keep, in the mean |
    | `seed` | | the build's, which `draws` depend on |

    Of `held`: `keys`, `values` (kv_heads, entries, head_dim) as cached, after rotation; `index`
    (kv_heads, entries) int64, the transcript token of each entry, ascending; `counts` (kv_heads,
    entries) float32, the originals an entry stands for; `valid` (kv_heads, entries) bool, false
    where a ragged head has only padding. `roles`, `demonstration`, `place`, `positions`, `always`
    give the table's columns per entry.
    """

    layer: int
    layers: int
    held: LayerTokens
    tokens: TokenTable
    records: Mapping[Record, Any]
    replayed: Mapping[Record, Any]
    rotary: Rotary
    module: nn.Module | None = None
    first_new: int = 0
    total: int = 0
    budget: int = 0
    scaling: float = 1.0
    seed: int = 0

    @property
    def keys(self) -> Tensor:
        """(kv_heads, entries, head_dim) as cached, after rotation."""
        return self.held.keys

    @property
    def values(self) -> Tensor:
        """(kv_heads, entries, head_dim)."""
        return self.held.values

    @cached_property
    def index(self) -> Tensor:
        """(kv_heads, entries) int64 transcript token of each entry."""
        index = self.held.index
        if index.stride(0) == 0:  # one row for all heads stays one row
            return index[0].long().expand_as(index)
        return index.long()

    @cached_property
    def counts(self) -> Tensor:
        """(kv_heads, entries) float32 originals an entry stands for."""
        own = self.held.originals
        return torch.ones(self.index.shape, device=self.keys.device) if own is None else own

    @cached_property
    def valid(self) -> Tensor:
        """(kv_heads, entries) bool: false for padding."""
        padding = self.held.padding
        return torch.ones_like(self.index, dtype=torch.bool) if padding is None else ~padding

    @property
    def kv_heads(self) -> int:
        """Number of key-value heads."""
        return self.held.kv_heads

    @property
    def entries(self) -> int:
        """Entries a head, padding included."""
        return int(self.keys.shape[1])

    @property
    def plain_keys(self) -> Tensor:
        """(kv_heads, entries, head_dim) float32 keys before rotation (after a key norm, if there is
        one).

        Computed anew at each call, so that not all layers hold them at once: keep it in a variable.
        """
        plain, positions = torch.empty(self.keys.shape, device=self.keys.device), self._angles_at
        for some in self.pieces():
            plain[:, some] = self.rotary.unrotate(
                self.layer, self.keys[:, some], positions[..., some]
            )
        return plain

    def pieces(self) -> Iterator[slice]:
        """Yield slices of the entries: work on one piece of all heads holds a sixteenth of what
        work on the whole layer would."""
        return pieces(self.keys)

    def rotated(self, plain_keys: Tensor, index: Tensor) -> Tensor:
        """Rotate (kv_heads, n, head_dim) keys to the positions of the transcript's tokens `index`
        (kv_heads, n)."""
        found = torch.empty_like(plain_keys)
        for some in pieces(plain_keys):
            positions = self.tokens.positions[:, index[:, some].long()]
            found[:, some] = self.rotary.rotate(self.layer, plain_keys[:, some], positions)
        return found

    @property
    def _angles_at(self) -> Tensor:
        """Positions as the rotary embedding takes them: once for all heads where they hold the
        same tokens."""
        is_shared = self.index.stride(0) == 0
        return self.tokens.positions[:, self.index[0]] if is_shared else self.positions

    @property
    def positions(self) -> Tensor:
        """(rows, kv_heads, entries) positions."""
        return self.tokens.positions[:, self.index]

    @property
    def block(self) -> int:
        """How many numbers a block of rows by entries may hold: half as many as the layer's keys,
        for small layers 65,536, for large ones four million."""
        return numbers_at_once(
            self.keys.numel() // 2, _LEAST_BLOCK, _LARGEST_BLOCK, self.keys.device
        )

    @property
    def roles(self) -> Tensor:
        """(kv_heads, entries) uint8 roles."""
        return self._column(self.tokens.roles)

    @property
    def demonstration(self) -> Tensor:
        """(kv_heads, entries) number of the demonstration, -1 for system prompt and BOS."""
        return self._column(self.tokens.demonstration).long()

    def _column(self, table: Tensor) -> Tensor:
        """A column (tokens,) of the table by entry: one row for all heads where they are alike."""
        if self.index.stride(0) == 0:
            return table[self.index[0]].expand_as(self.index)
        return table[self.index]

    @property
    def place(self) -> Tensor:
        """(kv_heads, entries, 4) place (image, t, h, w), -1 for text."""
        return self.tokens.place[self.index].long()

    @cached_property
    def always(self) -> Tensor:
        """(kv_heads, entries) bool: system prompt and BOS, kept whatever their score."""
        return (self.demonstration < 0) & self.valid

    @cached_property
    def most_always(self) -> int:
        """The largest number of entries that a head must keep."""
        return int(self.always.sum(1).max())

    @cached_property
    def most_held(self) -> int:
        """The largest number of entries that a head holds."""
        return self.entries if self.held.padding is None else int(self.valid.sum(1).max())

    @property
    def competing(self) -> Tensor:
        """(kv_heads, entries) bool: what the scores decide about."""
        return self.valid & ~self.always

    @property
    def is_image(self) -> Tensor:
        """(kv_heads, entries) bool: image tokens."""
        return self.roles == int(Role.IMAGE)

    def without(self, demonstrations: Sequence[int]) -> "Evidence":
        """Return what there is to see without reference rows of these `demonstrations`."""
        records, replayed = (
            {record: record.without(held, demonstrations) for record, held in found.items()}
            for found in (self.records, self.replayed)
        )
        return replace(self, records=records, replayed=replayed)

    def draws(self, purpose: str) -> Tensor:
        """Return (kv_heads, entries) uniform in [0, 1): each token's own number, the same in every
        chunk, other numbers for another seed or `purpose`."""
        return uniform(self.seed, purpose, self.layer, self.index)

    def each_head(self, count: int) -> Tensor:
        """Return (kv_heads,) int64 the same count for every head, where the keys are."""
        return torch.full((self.kv_heads,), count, dtype=torch.long, device=self.keys.device)


def pieces(vectors: Tensor) -> Iterator[slice]:
    """Yield slices that cover the entries of `vectors` (kv_heads, entries, …) in order, each about
    a sixteenth and at least 256; on an accelerator at least four million numbers, because every
    piece costs launches there.

    ```python
    >>> [(one.start, one.stop) for one in pieces(torch.zeros(2, 600, 16))]
    [(0, 256), (256, 512), (512, 768)]
    ```
    """
    entries = vectors.shape[1]
    step = max(_LEAST_PIECE, -(-entries // _PIECES))
    if vectors.device.type != "cpu":
        step = max(step, _LEAST_ELSEWHERE * entries // max(1, vectors.numel()))
    return (slice(first, first + step) for first in range(0, entries, step))


def lengths(vectors: Tensor) -> Tensor:
    """Return (kv_heads, entries) float32 the Euclidean length of (kv_heads, entries, …) vectors."""
    found = [vectors[:, some].float().norm(dim=-1) for some in pieces(vectors)]
    return torch.cat(found, 1)


_LEAST_BLOCK, _LARGEST_BLOCK = 1 << 16, 1 << 22
_PIECES = 16
_LEAST_PIECE, _LEAST_ELSEWHERE = 256, 1 << 22


@dataclass(frozen=True, eq=False)
class Selection:
    """What a budget decided for one layer.

    `kept` and `banked` are (kv_heads, entries) bool and do not overlap; `wish` (kv_heads, entries)
    is what decided about the bank, None where nothing is banked.
    """

    kept: Tensor
    banked: Tensor
    wish: Tensor | None = None

    @cached_property
    def counts(self) -> Tensor:
        """(kv_heads,) how many each head keeps."""
        return self.kept.sum(1)

    @cached_property
    def order(self) -> Tensor:
        """(kv_heads, most kept) entries kept, ascending; where a head keeps fewer, padding
        follows."""
        return packed(self.kept, max(self.lengths))

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """How many each head keeps, as numbers."""
        return tuple(self.counts.tolist())

    @cached_property
    def slot(self) -> Tensor:
        """(kv_heads, entries) place of a kept entry in `order`; meaningless elsewhere."""
        return (self.kept.long().cumsum(1) - 1).clamp(min=0)


@dataclass(frozen=True, eq=False)
class Stage:
    """One compression: all full-attention layers at once, for budgets that weigh layers against
    each other.

    `evidence` and `scores` are by model layer, None where the layer does not compete (sliding
    windows, linear attention). `tokens` is the mean number of entries a layer and head may keep;
    `reduce` makes a layer's kept tokens from given counts, for budgets that try several, and
    `replay` reads the stage's demonstrations again over them. `read` is such a reading over all
    entries, made before scoring where a part asks for it. What was found goes into `notes`; `known`
    is what a budget may remember between dividing the core and dividing the bank.
    """

    evidence: tuple[Evidence | None, ...]
    scores: tuple[Tensor | None, ...]
    tokens: int
    reduce: Callable[[int, Tensor], LayerTokens]
    replay: Replay
    read: ReadAgain | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    known: dict[Any, Any] = field(default_factory=dict)

    @property
    def competing(self) -> list[int]:
        """Numbers of the layers that compete."""
        return [layer for layer, one in enumerate(self.evidence) if one is not None]
