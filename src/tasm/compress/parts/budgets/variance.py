"""More tokens for layers whose attention is spread, fewer where it is concentrated: D2O.

Wan et al., "D2O: Dynamic Discriminative Operations", arXiv 2406.13035, section 3.2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.compress.evidence import Stage
from tasm.compress.parts.attended import EVERYONE, attention_sums
from tasm.compress.parts.base import Budget
from tasm.compress.parts.budgets.dense_first import DenseFirst
from tasm.compress.parts.budgets.shares import counts_by_layer


@dataclass(frozen=True)
class InverseVariance(Budget):
    """Tokens of a layer in proportion to exp(−F_l), F_l the variance of Σ_r softmax(q_r·K)_i over
    its tokens i.

    A dense attention map has a small variance of column sums and gets more. The first and the last
    layers are kept whole where the budget allows it (see `DenseFirst`).

    Differs from the paper in: F is standardised over the layers, so that exp(−F) means the same
    whatever the number of tokens.
    """

    dense: int = 2
    last: int = 1
    records = (EVERYONE,)

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return (kv_heads,) counts by layer."""
        whole = [
            0.0 if counts is None else float(counts[0])
            for counts in DenseFirst(self.dense, self.last).allocate(stage)
        ]
        dense = stage.notes["dense_layers"]
        others = [layer for layer in stage.competing if layer not in dense]
        if not others:
            return counts_by_layer(stage, {layer: whole[layer] for layer in dense})
        variances = torch.stack([_variance(stage, layer) for layer in others])
        spread = variances.std(correction=0).clamp(min=1e-12)
        shares = (-(variances - variances.mean()) / spread).softmax(0)
        rest = sum(whole[layer] for layer in others)
        wishes = {layer: whole[layer] for layer in dense}
        wishes |= {layer: rest * float(share) for layer, share in zip(others, shares, strict=True)}
        return counts_by_layer(stage, wishes)


def _variance(stage: Stage, layer: int) -> Tensor:
    """Variance over a layer's entries of the share of attention that each received."""
    one = stage.evidence[layer]
    assert one is not None
    received = attention_sums(one)[one.valid]
    return (received / received.sum().clamp(min=1e-20)).var(correction=0).cpu()
