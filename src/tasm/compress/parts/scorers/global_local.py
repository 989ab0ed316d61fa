"""Importance by accumulated attention and by the local window's, on one scale: EMS.

Li et al., "EMS", arXiv 2412.08521, equations (3) to (5).
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer
from tasm.compress.parts.scaling import pooled
from tasm.compress.records.received import AttentionReceived
from tasm.compress.records.record import Record


@dataclass(frozen=True)
class GlobalAndLocal(Scorer):
    """S_i = g_i·mean(l)/mean(g) + l_i: g the mean attention of all rows that see i, l that of the
    last `window` rows, both pooled; `combine` = "max" takes the larger instead of the sum.

    Differs from the paper in: scores are per KV head, the mean of its query heads; the window is
    the end of the demonstrations.
    """

    window: int = 32
    pool: int = 5
    combine: Literal["sum", "max"] = "sum"

    @property
    def records(self) -> tuple[Record, ...]:
        """Attention from all rows, and from the window."""
        return AttentionReceived("all"), AttentionReceived(f"last:{self.window}")

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        everywhere, window = (evidence.records[record].mean for record in self.records)
        everywhere, window = (
            pooled(mean.expand(evidence.index.shape), evidence.valid, self.pool)
            for mean in (everywhere, window)
        )
        number = evidence.valid.sum(1, keepdim=True)
        scale = _mean(window, evidence.valid, number) / _mean(
            everywhere, evidence.valid, number
        ).clamp(min=1e-20)
        aligned: Tensor = everywhere * scale
        return aligned + window if self.combine == "sum" else aligned.maximum(window)


def _mean(values: Tensor, valid: Tensor, number: Tensor) -> Tensor:
    return values.masked_fill(~valid, 0).sum(1, keepdim=True) / number
