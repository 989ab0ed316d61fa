"""More tokens for shallow layers, fewer for deep ones: PyramidKV.

Cai et al., "PyramidKV", arXiv 2406.02069, section 4.1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.compress.evidence import Stage
from tasm.compress.parts.base import Budget
from tasm.compress.parts.budgets.shares import counts_by_layer


@dataclass(frozen=True)
class Pyramid(Budget):
    """k_l falls linearly from 2·k − k/β at the first layer to k/β at the last, k the mean budget.

    Differs from the paper in: the observation window's tokens count inside k instead of coming on
    top of a separately shared rest.
    """

    beta: float = 20.0

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return (kv_heads,) counts by layer."""
        layers = stage.competing
        lowest = stage.tokens / self.beta
        steps = torch.linspace(2 * stage.tokens - lowest, lowest, len(layers))
        if len(layers) == 1:
            steps = torch.tensor([float(stage.tokens)])
        return counts_by_layer(stage, dict(zip(layers, steps.tolist(), strict=True)))
