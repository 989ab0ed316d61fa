"""Adding the values that leave to the kept tokens that follow: CaM.

Zhang et al., "CaM: Cache Merging", ICML 2024 (PMLR 235), equations (7) and (8).
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, Selection
from tasm.compress.parts.attended import EVERYONE, attention_sums
from tasm.compress.parts.base import Reducer
from tasm.memory.layer import LayerTokens
from tasm.memory.per_head import take


@dataclass(frozen=True)
class NextValues(Reducer):
    """v_j += v_i/m for the next m kept tokens j, with probability min(1, A_i / mean A_j), A the
    attention that all rows paid (H2O's sums). Keys stay as they are.

    | setting | |
    |---|---|
    | `following` | m |
    | `values` | "averaged": v_j is then divided by 1 plus what it received, 1/m from each token; "added": not, as printed |

    Differs from the paper in: all tokens leave at once, where the paper's leave one by one while an
    answer is written; attention is then shared among a fifth of the tokens, so values are averaged
    unless `values` says otherwise (added, they grow several times too large). The draw is seeded
    and each token's own, in every head.
    """  # noqa: E501

    following: int = 4
    values: Literal["averaged", "added"] = "averaged"
    records = (EVERYONE,)

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> LayerTokens:
        """Return the kept entries, values with what was added to them."""
        order = selection.order
        kept = order.shape[1]
        real = take(selection.kept, order)
        mass = attention_sums(evidence)
        kept_mass = take(mass, order) * real
        # Slots of the next kept entries after each entry that leaves.
        first = selection.kept.long().cumsum(1)
        ends = selection.counts[:, None]
        number = (ends - first).clamp(0, self.following)
        window = torch.zeros_like(mass)
        for step in range(self.following):
            slot = (first + step).clamp(max=kept - 1)
            window += kept_mass.gather(1, slot) * (first + step < ends)
        window /= number.clamp(min=1)
        chance = (mass / window.clamp(min=1e-20)).clamp(0, 1)
        drawn = evidence.draws("merging")
        moves = evidence.competing & ~selection.kept & (number > 0) & (drawn < chance)
        each = moves / number.clamp(min=1)
        values = take(evidence.values, order).float()
        received = torch.zeros_like(kept_mass)
        for step in range(self.following):
            slot = (first + step).clamp(max=kept - 1)
            weight = each * (first + step < ends)
            for some in evidence.pieces():
                share = evidence.values[:, some].float() * weight[:, some, None]
                values.scatter_add_(1, slot[:, some, None].expand_as(share), share)
            received.scatter_add_(1, slot, weight)
        if self.values == "averaged":
            values = values / (1 + received)[..., None]
        left = evidence.held.at(order, selection.lengths)
        return replace(left, values=values.to(left.values.dtype))
