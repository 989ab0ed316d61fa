"""Merging what leaves into a few residual slots by count-weighted means: ZeroMerge.

Liu et al., "ZeroMerge", arXiv 2503.10714, equations (5) to (8).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, Selection
from tasm.compress.parts.base import Reducer
from tasm.compress.parts.reducers.averaging import finished, weighted_merge
from tasm.compress.parts.reducers.nearest import nearest_slots
from tasm.memory.layer import LayerTokens
from tasm.memory.per_head import take


@dataclass(frozen=True)
class ResidualMerge(Reducer):
    """The lowest-scored share of the kept tokens are residual slots; every token that leaves joins
    the slot of largest cosine: k̂ = (w·k + k_i)/(w + 1), w ← w + 1, and logits get α·log w.

    | setting | |
    |---|---|
    | `residual_share` | share of the kept tokens that serve as slots |
    | `alpha` | α of the bias α·log w |
    | `keys` | average keys "plain" (before rotation) or "rotated" (the paper's) |

    Differs from the paper in: all tokens leave at once, so a slot's key does not move while it
    receives; w counts what streaming merged before.
    """

    residual_share: float = 0.25
    alpha: float = 1.0
    keys: Literal["plain", "rotated"] = "plain"

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> LayerTokens:
        """Return the kept entries with what was merged into them."""
        keys = evidence.plain_keys if self.keys == "plain" else evidence.keys
        order = selection.order
        receives = take(selection.kept & evidence.competing, order)
        kept_scores = take(scores, order).masked_fill(~receives, torch.inf)
        slots = (receives.sum(1, keepdim=True) * self.residual_share).ceil().long()
        rank = kept_scores.argsort(dim=1).argsort(dim=1)
        receives &= rank < slots
        leaves = evidence.competing & ~selection.kept
        slot, cosine = nearest_slots(selection, [keys], leaves, receives)
        merges = cosine.isfinite()
        weights = torch.where(merges, evidence.counts, 0.0)
        merged_keys, merged_values = weighted_merge(
            selection, slot, weights, evidence.counts, [keys, evidence.values]
        )
        del keys
        counts = take(evidence.counts, order).scatter_add(1, slot, weights)
        return finished(
            evidence, selection, merged_keys, merged_values, counts, self.keys, self.alpha
        )
