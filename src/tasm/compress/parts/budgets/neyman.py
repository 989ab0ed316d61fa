"""More tokens for layers whose attention output hangs on single tokens: Neyman's allocation.

Knows what the sampling record found in every layer; not which tokens are kept.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasm.compress.evidence import Evidence, Stage
from tasm.compress.parts.base import Budget
from tasm.compress.parts.budgets.shares import bank_by_layer, counts_by_layer
from tasm.compress.records.sampling import SamplingSpread
from tasm.errors import ModelError

_ATTENTIONS = ("self_attn", "attention", "attn", "self_attention")
_PROJECTIONS = ("o_proj", "out_proj", "dense", "c_proj", "wo")


@dataclass(frozen=True)
class Neyman(Budget):
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
        wishes = self._wishes(stage)
        stage.notes["layer_shares"] = [round(wishes[layer], 4) for layer in stage.competing]
        return counts_by_layer(stage, wishes)

    def allocate_bank(
        self, stage: Stage, core: list[Tensor | None], bank: int
    ) -> list[Tensor | None]:
        """Return (kv_heads,) originals each layer banks, those of earlier chunks included."""
        return bank_by_layer(stage, core, self._wishes(stage), bank)

    def _wishes(self, stage: Stage) -> dict[int, float]:
        """Shares by layer, which add up to 1."""
        if self not in stage.known:
            stage.known[self] = self._shares(stage)
        shares: dict[int, float] = stage.known[self]
        return shares

    def _shares(self, stage: Stage) -> dict[int, float]:
        record = self.records[0]
        found: dict[int, float] = {}
        for layer in stage.competing:
            one = stage.evidence[layer]
            assert one is not None
            spread = one.records[record].mean
            found[layer] = _variance(spread, output_projection(one), one.keys) ** self.power
        total = sum(found.values()) or 1.0
        floor = self.floor / len(found)
        return {layer: floor + (1 - self.floor) * v / total for layer, v in found.items()}


def output_projection(evidence: Evidence) -> nn.Module:
    """Return the module that maps the heads' outputs to the residual stream, W_O.

    Raises ModelError where the decoder layer has none that is known.
    """
    for attention in _ATTENTIONS:
        for projection in _PROJECTIONS:
            found = getattr(getattr(evidence.module, attention, None), projection, None)
            if isinstance(found, nn.Module):
                return found
    raise ModelError(
        f"Layer {evidence.layer}, a {type(evidence.module).__name__}, has no output projection "
        f"of attention that is known (such as `{_ATTENTIONS[0]}.{_PROJECTIONS[0]}`), by which "
        "this recipe divides tokens among layers. Use 'tasm-even-layers', which divides evenly."
    )


def _variance(spread: Tensor, projection: nn.Module, like: Tensor) -> float:
    """V of one layer: Σ_h trace(W_h·S_h·W_hᵀ), `spread` S (query_heads, head_dim, head_dim)."""
    columns = _columns(projection, spread.shape[0], spread.shape[1], like).to(spread)
    return max(0.0, float(((spread @ columns) * columns).sum()))


def _columns(projection: nn.Module, heads: int, head_dim: int, like: Tensor) -> Tensor:
    """(query_heads, head_dim, hidden_size): what the projection makes of each head's dimensions.

    A plain matrix is read. Any other (quantised, offloaded, with an adapter) is asked for the
    outputs of unit vectors, typed and placed as `like`, so that the criterion is the same whatever
    holds the weights.
    """
    if type(projection) is nn.Linear and projection.weight.device.type != "meta":
        columns = projection.weight.detach().T
    else:
        asked = like.new_zeros(1, heads * head_dim + 1, heads * head_dim)
        asked[0, :-1].fill_diagonal_(1)
        with torch.no_grad():
            said = projection(asked)[0].float()
        columns = said[:-1] - said[-1]
    return columns.unflatten(0, (heads, head_dim))
