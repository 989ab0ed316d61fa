"""What an index knows of one KV head's bank, and which rows it has a search read.

A leaf promises a query q·c + 2σ‖q‖ at most: c the mean of its keys, σ their spread. The lists that
promise most are opened, then their leaves that promise most, then every key in those is read.
Knows one head; the keys are read by whoever has them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tasm.memory.retrieval.index.clusters import ordered

SURE = 2.0
"""Standard deviations above its mean that a leaf's best key is expected at."""


def rows_read(tokens: int, k: int) -> int:
    """How many of so many tokens a search for k reads: growing with the root of their number."""
    return min(tokens, max(8 * k, math.ceil(14 * tokens**0.5)))


def lists_opened(lists: int) -> int:
    """How many lists a search opens."""
    return min(lists, max(16, math.ceil(6 * lists**0.5)))


@dataclass(frozen=True, eq=False)
class Level:
    """Groups of keys that follow each other.

    Attributes:
        centres: (groups, head_dim) mean keys.
        spreads: (groups,) float32, root of the mean squared distance of a key from its centre, a
            channel.
        sizes: (groups,) int32, how many members each has: leaves of a list, tokens of a leaf.
    """

    centres: Tensor
    spreads: Tensor
    sizes: Tensor

    @cached_property
    def starts(self) -> Tensor:
        """(groups,) the first member of each."""
        sizes = self.sizes.long()
        return sizes.cumsum(0) - sizes

    def promises(self, queries: Tensor, groups: Tensor | None = None) -> Tensor:
        """What groups promise the most hopeful of `queries` (n, head_dim), float32: (groups,)."""
        centres, spreads = self.centres, self.spreads
        if groups is not None:
            centres, spreads = centres[groups], spreads[groups]
        norms = queries.norm(dim=1, keepdim=True)
        return torch.addmm(SURE * norms * spreads, queries, centres.float().T).amax(0)

    def members(self, groups: Tensor) -> Tensor:
        """The numbers of the members of `groups`, one group after the other."""
        sizes, starts = self.sizes[groups].long(), self.starts[groups]
        ends = sizes.cumsum(0)
        first = torch.repeat_interleave(starts - ends + sizes, sizes)
        return first + torch.arange(len(first))


@dataclass(frozen=True, eq=False)
class HeadIndex:
    """One head's lists and leaves; its bank's rows lie in their order."""

    lists: Level
    leaves: Level

    @classmethod
    def of(cls, keys: Tensor) -> tuple[Tensor, "HeadIndex"]:
        """Order one head's keys (tokens, head_dim); returns the rows in order, and the index of
        the keys so ordered, its centres in their dtype.

        ```python
        order, index = HeadIndex.of(keys)
        keys = keys[order]
        ```
        """
        wide = keys.float()
        order = ordered(wide)
        wide = wide[order.rows]
        in_lists = _summed(order.leaves, order.lists)
        return order.rows, cls(
            _level(wide, in_lists, order.lists, keys.dtype),
            _level(wide, order.leaves, order.leaves, keys.dtype),
        )

    @property
    def tokens(self) -> int:
        """How many the head has."""
        return int(self.leaves.sizes.sum())

    def best_rows(self, queries: Tensor, k: int, read: Callable[[Tensor], Tensor]) -> Tensor:
        """The k rows of largest q·k among those that promise most, best first.

        Args:
            queries: (n, head_dim) float32; a key counts as much as the one that wants it most.
            k: how many; fewer where the head has fewer.
            read: keys (rows, head_dim) of row numbers.
        """
        tokens = self.tokens
        count = rows_read(tokens, k)
        rows = torch.arange(tokens) if count >= tokens else self._promising(queries, count)
        scores = (queries @ read(rows).float().T).amax(0)
        return rows[scores.topk(min(k, len(rows))).indices]

    def _promising(self, queries: Tensor, count: int) -> Tensor:
        """About `count` rows: those of the leaves that promise most, of the lists that do."""
        promises = self.lists.promises(queries)
        opened = promises.topk(lists_opened(len(promises))).indices
        leaves = self.lists.members(opened)
        best = self.leaves.promises(queries, leaves).topk(min(count, len(leaves))).indices
        leaves = leaves[best]
        before = self.leaves.sizes[leaves].long().cumsum(0) - self.leaves.sizes[leaves]
        return self.leaves.members(leaves[before < count])


def _level(keys: Tensor, tokens: Tensor, sizes: Tensor, dtype: torch.dtype) -> Level:
    """Groups of `tokens` keys each, in order, with `sizes` members."""
    group = torch.repeat_interleave(torch.arange(len(tokens)), tokens)
    counts = tokens[:, None].clamp(min=1)
    centres = keys.new_zeros(len(tokens), keys.shape[1]).index_add_(0, group, keys) / counts
    distances = (keys - centres[group]).square().mean(1)
    spreads = (keys.new_zeros(len(tokens)).index_add_(0, group, distances) / counts[:, 0]).sqrt()
    return Level(centres.to(dtype), spreads, sizes.to(torch.int32))


def _summed(values: Tensor, groups: Tensor) -> Tensor:
    """(groups,) sums of as many values as each group says."""
    group = torch.repeat_interleave(torch.arange(len(groups)), groups)
    return torch.zeros_like(groups).index_add_(0, group, values)
