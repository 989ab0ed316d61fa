"""Choosing entries head by head: every KV head has an order, and a number, of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor


def packed(mask: Tensor, most: int | None = None) -> Tensor:
    """Return (kv_heads, most) the indices that `mask` (kv_heads, entries) marks, ascending, padded.

    ```python
    >>> packed(torch.tensor([[True, False, True], [False, True, False]]))
    tensor([[0, 2],
            [1, 0]])
    ```

    `most` is the largest number that a head marks, where it is known.
    """
    if most is None:
        most = int(mask.sum(1).max()) if mask.numel() else 0
    return (~mask).to(torch.uint8).sort(dim=1, stable=True).indices[:, :most]


def take(tensor: Tensor, index: Tensor) -> Tensor:
    """Return `tensor` (kv_heads, entries, …) at `index` (kv_heads, n), head by head."""
    if tensor.ndim == 2:
        return tensor.gather(1, index)
    # Rows of one flat table: many times faster than gather with an expanded index.
    rows = flat_rows(index, tensor.shape[1])
    taken = tensor.reshape(-1, tensor.shape[-1]).index_select(0, rows)
    return taken.view(*index.shape, tensor.shape[-1])


def flat_rows(index: Tensor, entries: int) -> Tensor:
    """Return the row numbers of `index` (kv_heads, n) in a table whose heads follow each other."""
    step = max(1, entries)
    starts = torch.arange(0, index.shape[0] * step, step, device=index.device)
    return (index + starts[:, None]).flatten()


def by_head(flat: Tensor, counts: Sequence[int]) -> Tensor:
    """Return (kv_heads, most, …) of heads that follow each other in `flat` (all heads' entries, …).

    ```python
    >>> by_head(torch.tensor([1, 2, 3]), (1, 2))
    tensor([[1, 0],
            [2, 3]])
    ```

    A view where all heads have as many, else padded with zeros.
    """
    if len(set(counts)) <= 1:
        return flat.view(len(counts), max(counts, default=0), *flat.shape[1:])
    return torch.nn.utils.rnn.pad_sequence(list(flat.split(list(counts))), batch_first=True)


def ranks(scores: Tensor) -> Tensor:
    """Return (kv_heads, entries) the rank of every score in its head, 0 for the largest.

    Among equal scores the earlier entry comes first.
    """
    order = scores.sort(dim=1, descending=True, stable=True).indices
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)
