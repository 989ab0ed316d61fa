"""References that look at nothing: equal, random, and the most recent tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer


@dataclass(frozen=True)
class Equal(Scorer):
    """Gives every token the same importance; for recipes that keep everything."""

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries) zeros."""
        return torch.zeros(evidence.index.shape, device=evidence.keys.device)


@dataclass(frozen=True)
class Random(Scorer):
    """Draws every importance at random: a token's own number in each layer and head, by the build's
    seed."""

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries) uniform in [0, 1), the same for a token at every stage."""
        return evidence.draws("importance")


@dataclass(frozen=True)
class Recent(Scorer):
    """Prefers the first `sinks` tokens, then the most recent: StreamingLLM (arXiv 2309.17453)."""

    sinks: int = 4

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries): the token's index, and above all others for sinks."""
        index = evidence.index.float()
        return torch.where(evidence.index < self.sinks, index + evidence.total, index)
