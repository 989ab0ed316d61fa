"""What a gate is, and what it is shown: one layer's query beside the core, and beside the bank.

Knows tensors; neither caches nor what is done with the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from tasm.backbone.attention.segment import UNUSED, Weight
from tasm.memory.retrieval.gates.core import core_distribution, core_weight, hidden_slots


@dataclass(eq=False)
class Look:
    """One layer's query beside the core, on the query's device.

    Attributes:
        query: (batch, kv_heads, group, head_dim), rotated, each row's last live token.
        keys: (kv_heads, core tokens, head_dim), rotated.
        scaling: factor of the logits.
        bias: (kv_heads, core tokens) added to the logits, or None.
        hidden: (kv_heads, 1, core tokens) bool, the slots that the bias hides, or None.
        before: (batch or 1, kv_heads, core tokens), the distribution to compare with: the
            build's at the first step, then that of the step before; or None.
        known_weight: gives what `weight` would work out, where attention has done so already.
    """

    query: Tensor
    keys: Tensor
    scaling: float
    bias: Tensor | None = None
    hidden: Tensor | None = None
    before: Tensor | None = None
    known_weight: Weight | None = None
    _shares: Tensor | None = field(default=None, init=False)

    def distribution(self) -> Tensor:
        """(batch, kv_heads, core tokens), how the query looks at the core; worked out once."""
        if self._shares is None:
            self._shares = core_distribution(
                self.query, self.keys, self.scaling, self.bias, self.hidden
            )
        return self._shares

    def weight(self) -> Tensor:
        """(batch, kv_heads, group), log-sum-exp of the core's logits; inf where a head keeps
        nothing. No product, where attention has its own."""
        if self.known_weight is None:
            return core_weight(self.query, self.keys, self.scaling, self.bias)
        weight, hidden = self.known_weight(), self.hidden
        if hidden is None and self.bias is not None:
            hidden = hidden_slots(self.bias)
        nothing = weight <= UNUSED / 2
        if hidden is not None:  # a kernel of 16 bits holds no bias as far down as `UNUSED`
            nothing = nothing | hidden.all(-1)
        return weight.masked_fill(nothing, float("inf"))


class Gate(Protocol):
    """When a query looks into the bank: where its signal is above a threshold.

    The signal is made in two halves, so that a bank on the host costs an accelerator one copy a
    layer: what the core says is copied there together with the query.
    """

    @property
    def threshold(self) -> float:
        """Nats, where none was given and none was measured."""

    @property
    def is_calibrated(self) -> bool:
        """Whether building measures a reference and thresholds for it."""

    @property
    def compares(self) -> bool:
        """Whether it compares with the step before, whose distribution is then kept."""

    def core_side(self, look: Look) -> Tensor | None:
        """(batch, n) numbers on the query's device; None where there is nothing to compare with:
        then the first step retrieves, and no other."""

    def signal(self, core_side: Tensor, bank_weight: Callable[[], Tensor]) -> Tensor:
        """(batch,) nats on the bank's device. `core_side` is there; `bank_weight()` reads the
        bank's keys: (batch, kv_heads, group), log-sum-exp of its logits."""
