"""Layer budgets between two opinions: measured error curves, and one threshold over scores.
Knows the two budgets; not how either comes to what it says.
"""

import math
from dataclasses import dataclass, replace

from torch import Tensor

from tasm.compress.evidence import Stage
from tasm.compress.parts.base import Budget
from tasm.compress.parts.budgets.measured import Measured
from tasm.compress.parts.budgets.pooled import Pooled
from tasm.compress.parts.budgets.shares import counts_by_layer
from tasm.compress.parts.scorers.reconstruction import Reconstruction
from tasm.compress.records.record import Record


@dataclass(frozen=True)
class Compromise(Budget):
    """A layer's tokens are the geometric mean of what `Measured` and KVzip's `Pooled` give it.

    `Measured` looks at the recipe's own scores, `Pooled` at the attention of the second reading as
    a part of what goes to everything, all heads of a layer alike. What two budgets that err in
    other ways both ask for is asked for more surely; the mean is scaled to the whole budget.

    | setting | |
    |---|---|
    | `floor` | of `Measured`: share of an even share that it gives every layer |

    Source: this project (docs/experiments.md); the pooled threshold is KVzip's (arXiv 2505.23416).
    """

    floor: float = 0.1

    @property
    def _measured(self) -> Measured:
        return Measured(floor=self.floor)

    @property
    def replayed(self) -> tuple[Record, ...]:
        """What both look at while demonstrations are read again."""
        return (*self._measured.replayed, *Reconstruction().replayed)

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return (kv_heads,) counts by layer."""
        measured = self._measured.allocate(stage)
        scores = tuple(
            None if one is None else Reconstruction().score(one) for one in stage.evidence
        )
        pooled = Pooled(heads="alike").allocate(replace(stage, scores=scores))
        wishes = {}
        for layer in stage.competing:
            one, other = measured[layer], pooled[layer]
            assert one is not None and other is not None
            wishes[layer] = math.sqrt(float(one[0]) * float(other[0]))
        counts = counts_by_layer(stage, wishes)
        given = (counts[layer] for layer in stage.competing)
        stage.notes["layer_tokens"] = [int(count[0]) for count in given if count is not None]
        return counts
