"""More tokens for layers whose attention output hangs on single tokens: Neyman's allocation.

Knows what the sampling record found in every layer; not which tokens are kept.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.build.budgets.shares import counts_by_layer
from tasm.build.evidence import Evidence, Stage
from tasm.build.sampling import SamplingSpread


@dataclass(frozen=True)
class Neyman:
    """Tokens of a layer in proportion to V_l^p, V_l = mean over rows of Σ_j a_j²‖W_O(v_j − o)‖².

    V_l / n is how much what layer l adds to the residual stream varies when n of its tokens are drawn
    at random; p = ½ is Neyman's allocation (1934), which makes the sum of these variances smallest.
    j runs over tokens of other demonstrations, a are attention weights, o the
    attention output. Which tokens a row attends to does not matter, so a layer whose tokens nobody
    has asked for yet still gets its share. Core and bank together are divided so.

    | setting | |
    |---|---|
    | `power` | p |
    | `rows` | the rows that are looked at (see `tasm.build.rows`) |
    | `floor` | share of the budget that is divided evenly |

    ```python
    Neyman().allocate(stage)       # [tensor([96, 96]), tensor([31, 31]), tensor([480, 480]), …]
    ```

    Source: this project (docs/experiments.md).
    """  # noqa: E501

    power: float = 0.5
    rows: str = "every:16"
    floor: float = 0.02

    @property
    def records(self) -> tuple[SamplingSpread, ...]:
        """What the layers' outputs vary by."""
        return (SamplingSpread(self.rows),)

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return (kv_heads,) counts by layer."""
        wishes = self.wishes(stage)
        stage.notes["layer_shares"] = [round(wishes[layer], 4) for layer in stage.competing]
        return counts_by_layer(stage, wishes)

    def allocate_bank(
        self, stage: Stage, core: list[Tensor | None], bank: int
    ) -> list[Tensor | None]:
        """Return (kv_heads,) originals each layer banks, those of earlier chunks included."""
        read = max(len(one.tokens) for one in stage.evidence if one is not None)
        both = counts_by_layer(stage, self.wishes(stage), stage.tokens + bank, read)
        return [
            None if one is None or kept is None else (one - kept).clamp(min=0)
            for one, kept in zip(both, core, strict=True)
        ]

    def wishes(self, stage: Stage) -> dict[int, float]:
        """Shares by layer, which add up to 1."""
        found = {}
        for layer in stage.competing:
            one = stage.evidence[layer]
            assert one is not None
            found[layer] = self.variance(one) ** self.power
        total = sum(found.values()) or 1.0
        spread = {layer: value / total for layer, value in found.items()}
        floor = self.floor / len(spread)
        return {layer: floor + (1 - self.floor) * value for layer, value in spread.items()}

    def variance(self, evidence: Evidence) -> float:
        """V_l."""
        products = evidence.records[self.records[0]].mean
        heads, head_dim = products.shape[:2]
        weight = output_weight(evidence)
        if weight is None or weight.shape[1] != heads * head_dim:
            return float(torch.einsum("hdd->", products))
        split = weight.float().view(-1, heads, head_dim)
        return float(torch.einsum("ohd,hde,ohe->", split, products, split).clamp(min=0))


def output_weight(evidence: Evidence) -> Tensor | None:
    """The attention's output projection (hidden_size, query_heads·head_dim); None if not found."""
    attention = getattr(evidence.module, "self_attn", None)
    weight = getattr(getattr(attention, "o_proj", None), "weight", None)
    return weight.detach() if isinstance(weight, Tensor) else None
