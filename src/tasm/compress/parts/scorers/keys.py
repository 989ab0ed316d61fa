"""Importance from keys alone: their length, or how much they differ from the others.

Devoto et al., "A Simple and Effective L2 Norm-Based Strategy", arXiv 2406.11430; Park et al.,
"KeyDiff", arXiv 2504.15364.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tasm.compress.evidence import Evidence, lengths
from tasm.compress.parts.base import Scorer


@dataclass(frozen=True)
class KeyNorm(Scorer):
    """S_i = −‖k_i‖₂: short keys tend to draw attention.

    Differs from the paper in: every layer is compressed; the paper leaves the first two alone for
    language modelling.
    """

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        return -lengths(evidence.keys)


@dataclass(frozen=True)
class KeyDifference(Scorer):
    """S_i = −cos(k_i, k̄), k̄ the mean of the keys' directions: keys unlike the average stay.

    Differs from the paper in: evicts once (once a chunk when streaming), not block by block.
    """

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        anchor = torch.zeros(
            evidence.kv_heads, 1, evidence.keys.shape[-1], device=evidence.keys.device
        )
        for some in evidence.pieces():
            unit = normalize(evidence.keys[:, some].float(), dim=-1)
            anchor += (unit * evidence.valid[:, some, None]).sum(1, keepdim=True)
        anchor = normalize(anchor, dim=-1)
        alike = [
            (normalize(evidence.keys[:, some].float(), dim=-1) * anchor).sum(-1)
            for some in evidence.pieces()
        ]
        return -torch.cat(alike, 1).masked_fill(~evidence.valid, 0)
