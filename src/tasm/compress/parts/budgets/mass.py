"""As many tokens a layer as hold a share of its importance: ZipVL.

He et al., "ZipVL", arXiv 2410.08584, equation (6).
"""

from dataclasses import dataclass

from torch import Tensor

from tasm.compress.evidence import Stage
from tasm.compress.parts.base import Budget
from tasm.compress.parts.budgets.shares import counts_by_layer


@dataclass(frozen=True)
class ImportanceMass(Budget):
    """p_l = min{p : Σ of the p largest scores ≥ τ·Σ of all}, scores averaged over a layer's heads.

    | setting | |
    |---|---|
    | `threshold` | τ (the paper's is about 0.975), or "budget": τ is searched until the mean of p_l meets the budget; the memory's notes say what it came to |

    Differs from the paper in: the attention that reads the context is whole; only what is stored is
    restricted to the p_l tokens.
    """  # noqa: E501

    threshold: float | str = "budget"

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return (kv_heads,) counts by layer."""
        mass = {layer: _cumulative(stage, layer) for layer in stage.competing}
        if isinstance(self.threshold, str):
            low, high = 0.0, 1.0
            for _ in range(40):
                middle = (low + high) / 2
                mean = sum(_needed(shares, middle) for shares in mass.values()) / len(mass)
                low, high = (middle, high) if mean < stage.tokens else (low, middle)
            stage.notes["threshold"] = low
            wishes = {layer: float(_needed(shares, low)) for layer, shares in mass.items()}
            return counts_by_layer(stage, wishes)
        counts: list[Tensor | None] = [None] * len(stage.evidence)
        for layer, shares in mass.items():
            one = stage.evidence[layer]
            assert one is not None
            least = one.most_always
            counts[layer] = one.each_head(max(least, _needed(shares, self.threshold)))
        return counts


def _cumulative(stage: Stage, layer: int) -> Tensor:
    """(entries,) share of the total that the largest p + 1 scores hold."""
    one, scores = stage.evidence[layer], stage.scores[layer]
    assert one is not None and scores is not None
    ordered = scores.clamp(min=0).masked_fill(~one.valid, 0).sort(dim=1, descending=True).values
    total = ordered.mean(0).cumsum(0)
    return total / total[-1].clamp(min=1e-20)


def _needed(shares: Tensor, threshold: float) -> int:
    """How many of the largest hold `threshold` of everything."""
    return min(int((shares < threshold).sum()) + 1, shares.shape[0])
