"""Importance by the attention that future queries are expected to pay.

Devoto, Jeblick, Jégou, "Expected Attention", arXiv 2510.00636, equations (3) to (7).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.build.evidence import Evidence
from tasm.build.records import QueryMoments, Record


@dataclass(frozen=True)
class ExpectedAttention:
    """S_i = (E[a_i] + ε)·‖v_i‖ with E[a_i] the softmax of k_i·μ/√d + k_iᵀΣk_i/(2d).

    μ and Σ are mean and covariance of the queries before rotation, moved to the positions of the
    next `ahead` tokens and averaged over them.

    Differs from the paper in:
    - Queries of answers and questions (all text) give the moments; `rows` = "all" is the paper's.
    - The output projection is left out of the value's length.
    - Keys of a KV head get the mean over its query heads.
    """

    rows: str = "text"
    ahead: int = 64
    epsilon: float = 0.02

    @property
    def records(self) -> tuple[Record, ...]:
        """Mean and covariance of queries before rotation."""
        return (QueryMoments(self.rows),)

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        moments = evidence.records[self.records[0]]
        mean, covariance = self._ahead(evidence, moments.mean, moments.covariance)
        keys = evidence.keys.float()
        mean = mean.unflatten(0, (evidence.kv_heads, -1))  # (kv_heads, group, head_dim)
        covariance = covariance.unflatten(0, (evidence.kv_heads, -1))
        first = torch.einsum("hgd,hed->hge", mean, keys) * evidence.scaling
        spread = torch.einsum("hed,hgdc,hec->hge", keys, covariance, keys)
        logits = first + spread * evidence.scaling**2 / 2
        logits = logits.masked_fill(~evidence.valid[:, None], -torch.inf)
        expected = logits.softmax(-1).mean(1)
        return (expected + self.epsilon) * evidence.values.float().norm(dim=-1)

    def _ahead(self, evidence: Evidence, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance after rotation, averaged over the next `ahead` positions.

        Rotation is linear, so its matrix at a position is found by rotating unit vectors.
        """
        head_dim = mean.shape[-1]
        after = int(evidence.tokens.positions.max()) + 1
        rows = evidence.tokens.positions.shape[0]
        unit = torch.eye(head_dim, device=mean.device)
        average_mean = torch.zeros_like(mean)
        average_covariance = torch.zeros_like(covariance)
        steps = range(0, self.ahead, max(1, self.ahead // 8))
        for step in steps:
            positions = torch.full((rows, head_dim), after + step, device=mean.device)
            matrix = evidence.rotary.rotate(evidence.layer, unit[None], positions)[0]
            average_mean += mean @ matrix / len(steps)
            average_covariance += matrix.T @ covariance @ matrix / len(steps)
        return average_mean, average_covariance
