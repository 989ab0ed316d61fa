"""Importance by the attention that all later tokens paid: H2O's heavy hitters.

Zhang et al., "H2O: Heavy-Hitter Oracle", arXiv 2306.14048, algorithm 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer
from tasm.compress.records.received import AttentionReceived
from tasm.memory.per_head import ranks


@dataclass(frozen=True)
class HeavyHitters(Scorer):
    """A share `recent` of the budget goes to the most recent tokens, the rest to the largest
    Σ_r softmax(q_r·K)_i over all rows r; one half each is the paper's.

    A token's score is minus the better of its two ranks, each over its share, so that any budget is
    shared so. The first `sinks` tokens come before all (D2O).

    Differs from the paper in:
    - Evicts once, after the demonstrations are read (once a chunk when streaming), not at every
      token; the sums are those of the full context.
    - Sums are the mean over the query heads of a KV head.
    """

    sinks: int = 0
    recent: float = 0.5
    records = (AttentionReceived("all"),)

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries) minus the better rank, by attention or by recency."""
        mass = evidence.records[self.records[0]].mass.masked_fill(~evidence.valid, -1)
        recency = evidence.index.float().masked_fill(~evidence.valid, -1)
        heavy, recent = ranks(mass), ranks(recency)
        score = -heavy / (1 - self.recent) if self.recent < 1 else -recent.float()
        if 0 < self.recent < 1:  # ties go to the heavy hitter: half a rank apart
            score = score.maximum(-(recent + 0.5) / self.recent)
        return torch.where(evidence.index < self.sinks, 1.0, score)
