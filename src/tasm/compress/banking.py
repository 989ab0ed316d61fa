"""Collecting the latent bank of one layer over the stages of a build: the best originals,
unaltered."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.compress.evidence import packed, take
from tasm.compress.selection import ranks
from tasm.compress.working import WorkingLayer
from tasm.memory.layer import LayerTokens


@dataclass(frozen=True, eq=False)
class Banked:
    """Originals of one layer with the scores they were banked at."""

    keys: Tensor
    values: Tensor
    index: Tensor
    scores: Tensor
    valid: Tensor

    @classmethod
    def of(cls, layer: WorkingLayer, scores: Tensor, banked: Tensor) -> "Banked":
        """Copy the entries that `banked` (kv_heads, entries) marks."""
        order = packed(banked)
        slots = torch.arange(order.shape[1], device=order.device)
        return cls(
            take(layer.keys, order),
            take(layer.values, order),
            take(layer.index, order),
            take(scores.float(), order),
            slots < banked.sum(1, keepdim=True),
        )

    def joined(self, later: "Banked", tokens: Tensor) -> "Banked":
        """Return the best `tokens` (kv_heads,) of both, in the order of the transcript."""
        tokens = tokens.to(self.scores.device)
        both = Banked(
            torch.cat([self.keys, later.keys], 1),
            torch.cat([self.values, later.values], 1),
            torch.cat([self.index, later.index], 1),
            torch.cat([self.scores, later.scores], 1),
            torch.cat([self.valid, later.valid], 1),
        )
        ranked = ranks(both.scores.masked_fill(~both.valid, -torch.inf))
        stays = both.valid & (ranked < tokens[:, None])
        order = packed(stays)
        slots = torch.arange(order.shape[1], device=order.device)
        return Banked(
            take(both.keys, order),
            take(both.values, order),
            take(both.index, order),
            take(both.scores, order),
            slots < stays.sum(1, keepdim=True),
        )

    def layer_tokens(self) -> LayerTokens | None:
        """What the memory's bank holds; None where that is nothing."""
        lengths = self.valid.sum(1).tolist()
        if max(lengths) == 0:
            return None
        ragged = len(set(lengths)) > 1 or lengths[0] < self.valid.shape[1]
        return LayerTokens(
            self.keys,
            self.values,
            self.index.to(torch.int32),
            lengths=tuple(lengths) if ragged else None,
        )
