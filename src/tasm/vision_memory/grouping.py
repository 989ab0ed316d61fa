"""Which of a tower's tokens belong to which image: pooled to one vector an image, and spread back.

Knows shapes only. A tower takes either one row an image, `(images, tokens, width)`, some rows
padded, or the tokens of all images behind one another, `(tokens, width)`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """One row an image; `valid` (images, tokens) bool is False where a row is padded."""

    images: int
    valid: Tensor | None = None

    def mean(self, tokens: Tensor) -> Tensor:
        """Return (images, width): the mean of every image's tokens."""
        if self.valid is None:
            return tokens.mean(1)
        kept = self.valid.unsqueeze(-1)
        total = torch.where(kept, tokens, 0).sum(1)
        return total / self.valid.sum(1, keepdim=True).clamp_min(1)

    def maximum(self, tokens: Tensor) -> Tensor:
        """Return (images, width): the elementwise maximum of every image's tokens."""
        if self.valid is not None:
            lowest = torch.finfo(tokens.dtype).min
            tokens = torch.where(self.valid.unsqueeze(-1), tokens, lowest)
        return tokens.amax(1)

    def first(self, tokens: Tensor) -> Tensor:
        """Return (images, width): every image's first token."""
        return tokens[:, 0]

    def spread(self, vectors: Tensor) -> Tensor:
        """Return one vector an image, (images, width), beside the tokens it belongs to."""
        return vectors.unsqueeze(1)


@dataclass(frozen=True, eq=False)
class Packed:
    """All images' tokens in one row; `edges` (images + 1,) says where each one begins and ends."""

    edges: Tensor

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self.edges) - 1

    @property
    def lengths(self) -> Tensor:
        """Tokens of every image."""
        return self.edges.diff().long()

    @property
    def owner(self) -> Tensor:
        """(tokens,): which image a token belongs to."""
        numbers = torch.arange(self.images, device=self.edges.device)
        return torch.repeat_interleave(numbers, self.lengths)

    def mean(self, tokens: Tensor) -> Tensor:
        total = tokens.new_zeros(self.images, tokens.shape[-1])
        return total.index_add(0, self.owner, tokens) / self.lengths.unsqueeze(-1)

    def maximum(self, tokens: Tensor) -> Tensor:
        lowest = tokens.new_full((self.images, tokens.shape[-1]), torch.finfo(tokens.dtype).min)
        where = self.owner.unsqueeze(-1).expand_as(tokens)
        return lowest.scatter_reduce(0, where, tokens, "amax")

    def first(self, tokens: Tensor) -> Tensor:
        return tokens[self.edges[:-1].long()]

    def spread(self, vectors: Tensor) -> Tensor:
        return vectors[self.owner]


Grouping = Rows | Packed
"""Tokens of several images, however a tower packs them."""
