"""Importance by the attention that future queries are expected to pay.

Devoto, Jeblick, Jégou, "Expected Attention", arXiv 2510.00636, equations (3) to (7).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, lengths
from tasm.compress.parts.base import Scorer
from tasm.compress.records.queries import QueryMoments
from tasm.compress.records.record import Record


@dataclass(frozen=True)
class ExpectedAttention(Scorer):
    """S_i = (E[a_i] + ε)·‖v_i‖ with E[a_i] the softmax of k_i·μ/√d + k_iᵀΣk_i/(2d).

    With R̄ the mean of the rotations to the next `ahead` positions, μ and Σ are R̄μ_q and R̄Σ_qR̄ᵀ,
    mean and covariance of the queries before rotation. The first `sinks` tokens come before all
    and take no part in the softmax, nor, where `rows` is "all", in the moments.

    Differs from the paper in:
    - Unless `rows` is "all", as in the paper, only queries of answers and questions (all text) give
      the moments.
    - The output projection is left out of the value's length.
    - Keys of a KV head get the mean over its query heads.
    """

    rows: str = "text"
    ahead: int = 512
    epsilon: float = 0.02
    sinks: int = 0

    @property
    def records(self) -> tuple[Record, ...]:
        """Mean and covariance of queries before rotation."""
        without = self.rows == "all" and self.sinks
        return (QueryMoments(f"after:{self.sinks}" if without else self.rows),)

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        moments = evidence.records[self.records[0]]
        mean, covariance = self._ahead(evidence, moments.mean, moments.covariance)
        mean = mean.unflatten(0, (evidence.kv_heads, -1))  # (kv_heads, group, head_dim)
        covariance = covariance.unflatten(0, (evidence.kv_heads, -1))
        parts = []
        for some in evidence.pieces():
            keys = evidence.keys[:, None, some].float()
            first = (keys @ mean[..., None])[..., 0] * evidence.scaling
            spread = ((keys @ covariance) * keys).sum(-1)  # (kv_heads, group, some)
            parts.append(first + spread * evidence.scaling**2 / 2)
        sunk = evidence.index < self.sinks
        logits = torch.cat(parts, -1).masked_fill((~evidence.valid | sunk)[:, None], -torch.inf)
        expected = logits.softmax(-1).mean(1).nan_to_num()  # where there are sinks alone
        score = (expected + self.epsilon) * lengths(evidence.values)
        return torch.where(sunk, score.amax() + 1, score)

    def _ahead(self, evidence: Evidence, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance after the average rotation to the next `ahead` positions.

        Rotation is linear, so its (transposed) matrix is found by rotating unit vectors.
        """
        head_dim = mean.shape[-1]
        after = int(evidence.tokens.positions.max()) + 1
        rows = evidence.tokens.positions.shape[0]
        steps = torch.arange(after, after + self.ahead, device=mean.device)
        positions = steps.repeat_interleave(head_dim).expand(rows, -1)
        unit = torch.eye(head_dim, device=mean.device).repeat(self.ahead, 1)
        rotated = evidence.rotary.rotate(evidence.layer, unit[None], positions)[0]
        matrix = rotated.view(self.ahead, head_dim, head_dim).mean(0)
        return mean @ matrix, matrix.T @ covariance @ matrix
