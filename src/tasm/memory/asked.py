"""Queries that a memory keeps so that its gate can be taught again when demonstrations come or go.

They are those that said the demonstrations' answers, before rotation. Knows tensors; not how a gate
is taught.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class KeptQueries:
    """Queries of the same tokens in every layer.

    Attributes:
        index: (rows,) int32, transcript tokens.
        layers: (query_heads, rows, head_dim) float16 of each layer, None where it has no gate.
    """

    index: Tensor
    layers: tuple[Tensor | None, ...]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        held = sum(layer.nbytes for layer in self.layers if layer is not None)
        return self.index.nbytes + held

    def between(self, start: int, end: int) -> "KeptQueries":
        """Return those of tokens `start` to `end - 1`, counted from `start`."""
        here = (self.index >= start) & (self.index < end)
        return KeptQueries(
            self.index[here] - start,
            tuple(None if layer is None else layer[:, here] for layer in self.layers),
        )


def joined_queries(
    parts: Sequence[KeptQueries | None], starts: Sequence[int]
) -> KeptQueries | None:
    """Queries of shards that begin at `starts`; None where a shard has kept none."""
    held = [part for part in parts if part is not None]
    if not held or len(held) < len(parts):
        return None
    index = torch.cat([part.index + start for part, start in zip(held, starts, strict=True)])
    layers: list[Tensor | None] = []
    for same in zip(*(part.layers for part in held), strict=True):
        queries = [one for one in same if one is not None]
        layers.append(torch.cat(queries, 1) if len(queries) == len(held) else None)
    return KeptQueries(index.to(torch.int32), tuple(layers))
