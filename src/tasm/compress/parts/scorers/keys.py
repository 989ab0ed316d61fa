"""Importance from keys alone: their length, or how much they differ from the others.

Devoto et al., "A Simple and Effective L2 Norm-Based Strategy", arXiv 2406.11430; Park et al.,
"KeyDiff", arXiv 2504.15364.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import normalize

from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer


@dataclass(frozen=True)
class KeyNorm(Scorer):
    """S_i = −‖k_i‖₂: short keys tend to draw attention.

    Differs from the paper in: every layer is compressed; the paper leaves the first two alone for
    language modelling.
    """

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        return -evidence.keys.float().norm(dim=-1)


@dataclass(frozen=True)
class KeyDifference(Scorer):
    """S_i = −cos(k_i, k̄), k̄ the mean of the keys' directions: keys unlike the average stay.

    Differs from the paper in: evicts once (once a chunk when streaming), not block by block.
    """

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        unit = normalize(evidence.keys.float(), dim=-1) * evidence.valid[..., None]
        anchor = normalize(unit.sum(1, keepdim=True), dim=-1)
        return -(unit * anchor).sum(-1)
