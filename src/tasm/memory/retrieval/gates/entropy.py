"""entropy: is some head undecided where to look in the core?

Attention that finds nothing spreads out. Needs neither a reference nor the bank.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.memory.retrieval.gates.base import Look


@dataclass(frozen=True)
class Entropy:
    """Opens where the entropy of the query's distribution over the core, of the KV head that is
    least decided, is above the threshold in nats."""

    threshold: float = 3.0
    is_calibrated: bool = False
    compares: bool = False

    def core_side(self, look: Look) -> Tensor | None:
        """(batch, kv_heads), entropies."""
        shares = look.distribution()
        return -torch.xlogy(shares, shares).sum(-1)

    def signal(self, core_side: Tensor, bank_weight: Callable[[], Tensor]) -> Tensor:
        """(batch,) nats; the bank is not read."""
        return core_side.amax(1)
