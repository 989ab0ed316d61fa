"""Importance of founding a memory slot: CAMELoT.

He et al., "CAMELoT", arXiv 2402.13449, section 3.2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer
from tasm.compress.parts.slots import write_slots


@dataclass(frozen=True)
class SlotFounders(Scorer):
    """Tokens that founded one of the M slots come first, the others by recency; M is the budget.

    Slots are written in reading order: a token whose key has cosine above `threshold` with a slot
    joins it, another one replaces the slot longest left alone (see `SlotMerge`).

    Differs from the paper in: keys are compared before rotation; R is not given, so 0.9 is a
    choice.
    """

    threshold: float = 0.9

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        slots = max(1, evidence.budget - int(evidence.always.sum(1).max()))
        founder = write_slots(
            evidence.plain_keys, evidence.counts, evidence.competing, slots, self.threshold
        )
        entries = torch.arange(evidence.entries, device=founder.device)
        return (founder == entries).float() * 2 + entries / evidence.entries
