"""More tokens for layers whose attention output hangs on single tokens: Neyman's allocation.

Knows what the sampling record found in every layer; not which tokens are kept.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, Stage
from tasm.compress.parts.budgets.shares import counts_by_layer
from tasm.compress.records.sampling import SamplingSpread


@dataclass(frozen=True)
class Neyman:
    """Tokens of a layer in proportion to V_l^p, V_l = mean over rows of Σ_j a_j²‖W_O(v_j − o)‖².

    V_l / n is how much what layer l adds to the residual stream varies when n of its tokens are drawn
    at random; p = ½ is Neyman's allocation (1934), which makes the sum of these variances smallest,
    p = 1 favours the layers that look things up. j runs over tokens of other demonstrations, a are
    attention weights, o the attention output. Which tokens a row attends to does not matter, so a
    layer whose tokens nobody has asked for yet still gets its share. Core and bank together are
    divided so.

    | setting | |
    |---|---|
    | `power` | p |
    | `rows` | the rows that are looked at (see `tasm.compress.records.row_rules`) |
    | `last_rows` | the rows of the model's last layer, whose output is read only where something is said |
    | `floor` | share of the budget that is divided evenly |

    ```python
    Neyman().allocate(stage)       # [tensor([96, 96]), tensor([31, 31]), tensor([480, 480]), …]
    ```

    Source: this project (docs/experiments.md).
    """  # noqa: E501

    power: float = 0.5
    rows: str = "spread:64"
    last_rows: str = "predictions"
    floor: float = 0.02

    @property
    def records(self) -> tuple[SamplingSpread, ...]:
        """What the layers' outputs vary by."""
        return (SamplingSpread(self.rows, self.last_rows),)

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
        record = self.records[0]
        competing = {layer: stage.evidence[layer] for layer in stage.competing}
        spreads = {n: one.records[record].mean for n, one in competing.items() if one is not None}
        weights = {n: output_weight(one) for n, one in competing.items() if one is not None}
        comparable = all(_fits(weights[layer], spreads[layer]) for layer in spreads)
        found = {
            layer: _variance(spread, weights[layer] if comparable else None) ** self.power
            for layer, spread in spreads.items()
        }
        total = sum(found.values()) or 1.0
        floor = self.floor / len(found)
        return {layer: floor + (1 - self.floor) * v / total for layer, v in found.items()}


def output_weight(evidence: Evidence) -> Tensor | None:
    """The attention's output projection (hidden_size, query_heads·head_dim); None if not found."""
    attention = getattr(evidence.module, "self_attn", None)
    weight = getattr(getattr(attention, "o_proj", None), "weight", None)
    if not isinstance(weight, Tensor) or weight.device.type == "meta":
        return None
    return weight.detach()


def _fits(weight: Tensor | None, spread: Tensor) -> bool:
    """Whether it is a plain matrix over the heads (a quantised one is packed)."""
    return weight is not None and weight.shape[-1] == spread.shape[0] * spread.shape[1]


def _variance(spread: Tensor, weight: Tensor | None) -> float:
    """V of one layer; in the space of values where there is no projection."""
    if weight is None:
        return float(torch.einsum("hdd->", spread))
    split = weight.to(spread.device, spread.dtype).view(-1, *spread.shape[:2])
    return float(torch.einsum("ohd,hde,ohe->", split, spread, split).clamp(min=0))
