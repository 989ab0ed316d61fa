"""Importance with text above images: LOOK-M's text prior.

Wan et al., "LOOK-M", arXiv 2406.18139, equations (2) to (4).
"""

from dataclasses import dataclass

from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer
from tasm.compress.records.received import AttentionReceived
from tasm.compress.records.record import Record


@dataclass(frozen=True)
class TextFirst(Scorer):
    """S_i = Σ_r softmax(q_r·K)_i over all rows, plus the largest of them for text tokens, so that
    image tokens leave first; the last `recent` tokens stay.

    Differs from the paper in: where text alone is over the budget, text leaves by the same sums;
    the recent window takes at most a tenth of the budget.
    """

    recent: int = 32

    @property
    def records(self) -> tuple[Record, ...]:
        """Attention from all rows."""
        return (AttentionReceived("all"),)

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        mass = evidence.records[self.records[0]].mass
        largest = mass.masked_fill(~evidence.valid, 0).amax(1, keepdim=True)
        own = min(self.recent, evidence.budget // 10)
        recent = evidence.index >= len(evidence.tokens) - own
        return mass + ~evidence.is_image * largest + recent * (2 * largest + 1)
