"""The first layers whole, the others evenly: FastV, D2O, KVMerger, Quest."""

from dataclasses import dataclass

from torch import Tensor

from tasm.build.budgets.shares import counts_by_layer
from tasm.build.evidence import Stage


@dataclass(frozen=True)
class DenseFirst:
    """The first `dense` layers keep everything, the others share what is left.

    Where that is more than half of the budget, fewer layers are dense, down to none; the memory's
    notes say how many were.
    """

    dense: int = 2

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return (kv_heads,) counts by layer."""
        layers = stage.competing
        held = {
            layer: int(one.valid.sum(1).max())
            for layer, one in enumerate(stage.evidence)
            if one is not None
        }
        total = stage.tokens * len(layers)
        dense = self.dense
        while dense and sum(held[layer] for layer in layers[:dense]) > total / 2:
            dense -= 1
        stage.notes["dense_layers"] = dense
        whole = sum(held[layer] for layer in layers[:dense])
        rest = (total - whole) / max(1, len(layers) - dense)
        return counts_by_layer(
            stage, {layer: held[layer] if layer in layers[:dense] else rest for layer in layers}
        )
