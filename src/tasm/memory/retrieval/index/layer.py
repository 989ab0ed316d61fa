"""The index of one layer of a bank: made of its tokens, and searched in their place.

Knows tokens and heads; a bank's layer is anything that hands out keys by head and row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from tasm.memory.layer import LayerTokens
from tasm.memory.retrieval.index.head import HeadIndex

LEAST_TOKENS = 32_768
"""Tokens of the fullest head from which on a bank is indexed: an exact scan of fewer takes no
longer (docs/large-banks.md)."""


@dataclass(frozen=True, eq=False)
class LayerIndex:
    """One index a KV head."""

    heads: tuple[HeadIndex, ...]

    @classmethod
    def of(cls, tokens: LayerTokens) -> tuple[LayerTokens, "LayerIndex"]:
        """Order a layer's tokens, head by head; returns them so ordered, and their index.

        ```python
        tokens, index = LayerIndex.of(tokens)
        ```
        """
        made = [
            HeadIndex.of(keys[:count])
            for keys, count in zip(tokens.keys.cpu(), tokens.counts, strict=True)
        ]
        order = torch.nn.utils.rnn.pad_sequence([rows for rows, _ in made], batch_first=True)
        there = tokens.at(order.to(tokens.keys.device), tokens.counts)
        return there, cls(tuple(index for _, index in made))

    def best_rows(
        self, query: Tensor, k: int, read: Callable[[int, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Row numbers (batch, kv_heads, k) of the best tokens found, best first, and which of them
        are missing ((kv_heads, k), true where a head holds fewer than k); None where none is.

        Args:
            query: (batch, kv_heads, group, head_dim) float32, on the host.
            k: at most as many as the fullest head holds.
            read: keys (rows, head_dim) of a head's rows.
        """
        counts = [head.tokens for head in self.heads]
        k = min(k, max(counts))
        rows = torch.zeros(query.shape[0], len(counts), k, dtype=torch.long)
        for number, head in enumerate(self.heads):
            if counts[number] == 0:
                continue
            read_head = partial(read, number)
            for row, asked in enumerate(query[:, number]):
                found = head.best_rows(asked, k, read_head)
                rows[row, number, : len(found)] = found
        if min(counts) >= k:
            return rows, None
        return rows, torch.arange(k) >= torch.tensor(counts)[:, None]


def is_large(counts: tuple[int, ...]) -> bool:
    """Whether a layer with so many tokens of each head is worth an index."""
    return max(counts, default=0) >= LEAST_TOKENS
