"""missing: would most of some head's attention fall on the bank?

Of what a head gives core and bank together, the bank's share is the logistic function of the
difference of their log-sum-exps. Source: this project (docs/retrieval.md).
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from tasm.memory.retrieval.gates.base import Look


@dataclass(frozen=True)
class Missing:
    """Opens where, for the query head that misses most, the bank outweighs the core by more than
    the threshold in nats: at 3, where 95 % of its attention would fall on the bank.

    A head whose core or bank holds nothing is left out. Building measures a threshold for each
    layer (`tasm.compress.calibrate`); 3 nats are for where it did not.
    """

    threshold: float = 3.0
    is_calibrated: bool = True
    compares: bool = False

    def core_side(self, look: Look) -> Tensor | None:
        """(batch, heads), the core's log-sum-exp by query head."""
        return look.weight().flatten(1)

    def signal(self, core_side: Tensor, bank_weight: Callable[[], Tensor]) -> Tensor:
        """(batch,) nats."""
        return (bank_weight().flatten(1) - core_side).amax(1)
