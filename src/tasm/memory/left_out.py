"""A memory read as if some of its demonstrations were not there, others for every row.

What a demonstration left in the core is hidden from its row, and so is what the row retrieves of
it; the tensors are shared, so a whole set is left out one by one in one batch. Keys and values of
later demonstrations were made when it was still there, and what was merged counts for the token it
was merged into: what is measured this way leaks that much. Knows caches; nothing of queries.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.segment import UNUSED, Segment, Weight
from tasm.errors import InputError
from tasm.memory.described import DescribedMemory


def leave_out(
    cache: MemoryCache, memory: DescribedMemory, left_out: Sequence[int | Iterable[int]]
) -> MemoryCache:
    """Return a cache whose row i reads `memory` without its demonstration number `left_out[i]`, or
    without all of several numbers.

    `cache` is a fresh one of the same memory, which stays as it is; -1 leaves nothing out.

    ```python
    cache = leave_out(memory.cache(), memory, [0, 1, [0, 1]])   # three rows
    ```

    Raises `InputError` for models with recurrent layers, whose state is of all demonstrations.
    """
    if any(state is not None for state in cache.states):
        raise InputError(
            "A demonstration cannot be left out of this memory: the model has recurrent layers, "
            "which keep one state of all demonstrations. Give queries instead (--queries)."
        )
    owners = memory.tokens.demonstration.long()
    count = int(owners.max()) + 1 if len(owners) else 0
    # Tokens of no demonstration have -1 as their owner: the last column, hidden from nobody.
    hidden = torch.zeros(len(left_out), count + 1, dtype=torch.bool)
    for row, numbers in enumerate(left_out):
        several = [numbers] if isinstance(numbers, int) else numbers
        hidden[row, [number for number in several if 0 <= number < count]] = True
    extra: Any = cache.extra
    return MemoryCache.from_segments(
        memory.geometry,
        [
            None if layer is None else [_hiding(segment, owners, hidden) for segment in layer]
            for layer in cache.segments
        ],
        next_position=cache.next_position,
        logical_length=cache.logical_length,
        extra=None if extra is None else HidingRetrieval(extra, owners, hidden),
        transcript=cache.transcript,
    )


def _hiding(segment: Segment, owners: Tensor, hidden: Tensor) -> Segment:
    assert segment.index is not None
    device = segment.index.device
    owner = owners.to(device)[segment.index.long()]
    bias = segment.bias if segment.bias is not None else torch.zeros(1, device=device)
    hides = torch.where(hidden.to(device)[:, owner], UNUSED, bias.float())
    return Segment(segment.keys, segment.values, hides, segment.index)


class HidingRetrieval:
    """A retrieval that brings nothing of the demonstrations that a row leaves out; `hidden` is
    (rows, demonstrations + 1) bool, the last column for tokens of none."""

    chunkable = False

    def __init__(self, retrieval: Any, owners: Tensor, hidden: Tensor) -> None:
        self._retrieval = retrieval
        self._owners = owners
        self._hidden = hidden

    @property
    def statistics(self) -> Any:
        """Of the retrieval."""
        return self._retrieval.statistics

    def __call__(
        self, layer: int, query: Tensor, scaling: float, weight: Weight | None = None
    ) -> Segment | None:
        """As a retrieval's, own tokens switched off."""
        # What attention has weighed is the core with those tokens hidden, as it should be.
        brought = self._retrieval(layer, query, scaling, weight)
        if brought is None:
            return None
        owner = self._owners.to(query.device)[brought.index.long().clamp_min(0)]
        row = torch.arange(len(owner), device=query.device)[:, None, None]
        hides = brought.bias.masked_fill(self._hidden.to(query.device)[row, owner], UNUSED)
        return Segment(brought.keys, brought.values, hides, brought.index)

    def map_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        """Reorder, repeat or select rows."""
        self._hidden = change(self._hidden)
        self._retrieval.map_rows(change)

    def reset(self) -> None:
        """Drop what was retrieved."""
        self._retrieval.reset()

    def fork(self) -> "HidingRetrieval":
        """Return another over the same bank."""
        return HidingRetrieval(self._retrieval.fork(), self._owners, self._hidden)
