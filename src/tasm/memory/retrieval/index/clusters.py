"""Keys put in an order in which those that are alike follow each other: lists, and leaves in them.

Plain k-means at both levels, from fixed seeds, so that equal keys give an equal order. Knows one
head's keys and nothing of queries or files.
"""

from typing import NamedTuple

import torch
from torch import Tensor

LEAF, LIST, REGION = 8, 64, 4096
"""Tokens of a leaf, of a list and of what lists are looked for in, in the mean."""

LARGEST_LEAF = 4 * LEAF
"""What is larger (keys that are all equal, say) is cut into several."""

_SAMPLED = 128  # keys a list that its centre is learned from
_ROUNDS = 8
_BLOCK = 1 << 22  # products held at a time


class Order(NamedTuple):
    """`rows` (tokens,) in their new order; `leaves` (leaves,) tokens of each leaf; `lists` (lists,)
    leaves of each list."""

    rows: Tensor
    leaves: Tensor
    lists: Tensor


def ordered(keys: Tensor) -> Order:
    """Cluster one head's keys (tokens, head_dim), float32.

    ```python
    ordered(torch.randn(20_000, 64)).leaves.sum()      # 20,000, in about 2,500 leaves
    ```
    """
    rows: list[Tensor] = []
    leaves: list[int] = []
    lists: list[int] = []
    for region in _clusters(keys, REGION):
        for chosen in _clusters(keys[region], LIST):
            members = region[chosen]
            before = len(leaves)
            for leaf in _clusters(keys[members], LEAF):
                rows.append(members[leaf])
                leaves += _cut(len(leaf))
            lists.append(len(leaves) - before)
    none = torch.zeros(0, dtype=torch.long)
    return Order(torch.cat([none, *rows]), torch.tensor(leaves).long(), torch.tensor(lists).long())


def _clusters(keys: Tensor, size: int) -> list[Tensor]:
    """The row numbers of clusters of about `size` keys; none is empty."""
    clusters = max(1, round(len(keys) / size))
    owner = _k_means(keys, clusters, sampled=_SAMPLED * clusters)
    sizes = owner.bincount()
    return list(owner.argsort(stable=True).split(sizes[sizes > 0].tolist()))


def _cut(size: int) -> list[int]:
    """A leaf's size as sizes of at most `LARGEST_LEAF`."""
    whole, rest = divmod(size, LARGEST_LEAF)
    return [LARGEST_LEAF] * whole + [rest] * (rest > 0)


def _k_means(keys: Tensor, clusters: int, sampled: int) -> Tensor:
    """(tokens,) each key's cluster; centres are learned from at most `sampled` keys."""
    tokens = len(keys)
    if clusters <= 1:
        return torch.zeros(tokens, dtype=torch.long)
    drawn = torch.randperm(tokens, generator=torch.Generator().manual_seed(tokens))
    heard = keys if sampled >= tokens else keys[drawn[:sampled].sort().values]
    centres = keys[drawn[:clusters]]
    for _ in range(_ROUNDS):
        owner = _nearest(heard, centres)
        counts = owner.bincount(minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, owner, heard)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
    return _nearest(keys, centres)


def _nearest(keys: Tensor, centres: Tensor) -> Tensor:
    half_norms = centres.square().sum(1) / 2
    block = max(1, _BLOCK // len(centres))
    return torch.cat([(some @ centres.T - half_norms).argmax(1) for some in keys.split(block)])
