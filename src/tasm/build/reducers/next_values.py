"""Adding the values that leave to the kept tokens that follow: CaM.

Zhang et al., "CaM: Cache Merging", ICML 2024 (PMLR 235), equations (7) and (8).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.build.attended import attention_sums
from tasm.build.evidence import Evidence, Reduced, Selection, take


@dataclass(frozen=True)
class NextValues:
    """v_j += v_i/m for the next m kept tokens j, with probability min(1, A_i / mean A_j), A the
    attention that all rows paid (H2O's sums). Keys stay as they are.

    Differs from the paper in: all tokens leave at once; the draw is seeded and made once a head.
    """

    following: int = 4

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> Reduced:
        """Return the kept entries, values with what was added to them."""
        order = selection.order
        kept = order.shape[1]
        real = take(selection.kept, order)
        mass = attention_sums(evidence, torch.ones_like(evidence.counts))
        kept_mass = take(mass, order) * real
        # Slots of the next kept entries after each entry that leaves.
        first = selection.kept.long().cumsum(1)
        steps = torch.arange(self.following, device=order.device)
        slots = first[..., None] + steps  # (kv_heads, entries, following)
        there = slots < selection.counts[:, None, None]
        slots = slots.clamp(max=kept - 1)
        number = there.sum(-1)
        heads = torch.arange(order.shape[0], device=order.device)[:, None, None]
        window = (kept_mass[heads, slots] * there).sum(-1) / number.clamp(min=1)
        chance = (mass / window.clamp(min=1e-20)).clamp(0, 1)
        drawn = torch.rand(mass.shape, generator=evidence.generator()).to(mass.device)
        moves = evidence.competing & ~selection.kept & (number > 0) & (drawn < chance)
        parts = evidence.values.float() * (moves / number.clamp(min=1))[..., None]
        values = take(evidence.values.float(), order)
        for step in range(self.following):
            share = parts * there[..., step, None]
            values = values.scatter_add(1, slots[..., step, None].expand_as(share), share)
        return Reduced(
            keys=take(evidence.keys, order),
            values=values.to(evidence.values.dtype),
            counts=take(evidence.counts, order),
        )
