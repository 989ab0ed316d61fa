"""Importance by what the last tokens look at: SnapKV, and PyramidKV's scores.

Li et al., "SnapKV", arXiv 2404.14469, equations (1) to (3); Cai et al., "PyramidKV", arXiv
2406.02069, section 4.
"""

from dataclasses import dataclass

from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer
from tasm.compress.parts.scaling import pooled
from tasm.compress.records.received import AttentionReceived
from tasm.compress.records.record import Record


@dataclass(frozen=True)
class ObservationWindow(Scorer):
    """S_i = mean over a neighbourhood of Σ_r softmax(q_r·K)_i, r in the last `window` tokens.

    The window itself is kept, whatever its score.

    | setting | |
    |---|---|
    | `window` | how many last tokens observe |
    | `pool` | neighbouring tokens whose attention is averaged |
    | `largest_share` | share of the budget that the window may take for itself |

    Differs from the paper in:
    - The window is the end of the demonstrations: the query is not known yet.
    - Scores are per KV head, the mean of its query heads; the paper has no grouped queries.
    - Where the budget is small the window keeps fewer tokens of its own (`largest_share`); all 32
      still observe. 1.0 is the paper's form.
    """

    window: int = 32
    pool: int = 5
    largest_share: float = 0.5

    @property
    def records(self) -> tuple[Record, ...]:
        """Attention from the window."""
        return (AttentionReceived(f"last:{self.window}"),)

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries): the pooled attention, above all others inside the window."""
        mass = evidence.records[self.records[0]].mass
        smooth = pooled(mass, evidence.valid, self.pool)
        own = min(self.window, int(evidence.budget * self.largest_share))
        inside = evidence.index >= len(evidence.tokens) - own
        return smooth + inside * (smooth.max() + 1)
