"""What the rows of a batch have attached in one layer: brought there, replaced row by row.

Knows tensors; neither gates nor searches.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tasm.backbone.attention.segment import UNUSED, Segment
from tasm.memory.retrieval.bank import Retrieved


class Attached(NamedTuple):
    """Keys, values (batch, kv_heads, k, head_dim); their places in the transcript and bias (batch,
    kv_heads, k), the bias `UNUSED` where there is nothing."""

    keys: Tensor
    values: Tensor
    places: Tensor
    bias: Tensor

    @classmethod
    def of(cls, found: Retrieved, query: Tensor) -> "Attached":
        """What a search brought, on `query`'s device and in its dtype."""
        device = query.device
        bias = torch.zeros(found.index.shape, device=device)
        if found.missing is not None:
            bias = bias.masked_fill(brought_to(found.missing, device), UNUSED)
        keys = brought_to(found.keys, device).to(query.dtype)
        values = brought_to(found.values, device).to(query.dtype)
        return cls(keys, values, brought_to(found.index, device), bias)

    def nothing(self, batch: int) -> "Attached":
        """As much for each of so many rows, all of it unused."""
        empty = self.changed(lambda part: part.new_zeros(batch, *part.shape[1:]))
        return empty._replace(bias=empty.bias.fill_(UNUSED))

    def with_rows(self, rows: Tensor, new: "Attached") -> "Attached":
        """The same with the rows of those numbers replaced."""
        pairs = zip(self, new, strict=True)
        return Attached(*(old.index_copy(0, rows, one) for old, one in pairs))

    def where(self, fired: Tensor, before: "Attached | None") -> "Attached":
        """These for rows that `fired` (batch,) bool marks, else what they had before."""
        if before is None:
            return self._replace(bias=self.bias.masked_fill(~fired[:, None, None], UNUSED))
        return Attached(
            *(
                torch.where(fired.view(-1, *[1] * (new.ndim - 1)), new, old)
                for old, new in zip(before, self, strict=True)
            )
        )

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Attached":
        """Every tensor changed in the same way."""
        return Attached(*(change(part) for part in self))

    def segment(self) -> Segment:
        """The same as attention reads it."""
        return Segment(self.keys, self.values, self.bias, self.places)


def brought_to(found: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`; the host goes on while it is copied, which CUDA does from pinned
    memory only."""
    if device.type == "cuda" and found.device.type == "cpu":
        found = found.pin_memory()
    return found.to(device, non_blocking=True)
