"""The first and last layers whole, the others evenly: FastV, D2O, KVMerger, Quest."""

from dataclasses import dataclass

from torch import Tensor

from tasm.compress.evidence import Stage
from tasm.compress.parts.base import Budget
from tasm.compress.parts.budgets.shares import counts_by_layer


@dataclass(frozen=True)
class DenseFirst(Budget):
    """The first `dense` and the `last` layers keep everything, the others share what is left.

    Where that is more than half of the budget, fewer layers are dense, down to none: the last ones
    are given up first. The memory's notes say which were dense.
    """

    dense: int = 2
    last: int = 0

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return (kv_heads,) counts by layer."""
        layers = stage.competing
        held = {layer: one.most_held for layer, one in enumerate(stage.evidence) if one is not None}
        total = stage.tokens * len(layers)
        ends = layers[len(layers) - self.last :] if self.last else []
        dense = list(dict.fromkeys([*layers[: self.dense], *reversed(ends)]))
        while dense and sum(held[layer] for layer in dense) > total / 2:
            dense.pop()
        stage.notes["dense_layers"] = sorted(dense)
        rest = (total - sum(held[layer] for layer in dense)) / max(1, len(layers) - len(dense))
        return counts_by_layer(
            stage, {layer: held[layer] if layer in dense else rest for layer in layers}
        )
