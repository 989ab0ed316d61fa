"""One threshold over the scores of many heads at once: KVzip, and AdaKV inside a layer.

Kim et al., "KVzip", arXiv 2505.23416, section 4.1 (its "pair" level); Feng et al., "Ada-KV", arXiv
2407.11550, algorithm 1.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tasm.compress.evidence import Stage
from tasm.compress.parts.base import Budget
from tasm.compress.parts.budgets.shares import counts_by_layer


@dataclass(frozen=True)
class Pooled(Budget):
    """What lies above one threshold is kept, so that budgets fall out of the scores.

    | setting | |
    |---|---|
    | `together` | heads whose scores are compared: of all layers ("everything", KVzip) or of one "layer" (AdaKV) |
    | `heads` | "each" keeps what lies above; "alike" gives all heads of a layer their mean |
    | `floor` | share of the budget that every head has for itself (AdaKV: 0.2) |

    Differs from the papers in: the system prompt is always kept and takes no part; heads of unequal
    numbers are stored padded to the longest of their layer.
    """  # noqa: E501

    together: Literal["everything", "layer"] = "everything"
    heads: Literal["each", "alike"] = "each"
    floor: float = 0.0

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return (kv_heads,) counts by layer."""
        layers = stage.competing
        groups = [layers] if self.together == "everything" else [[layer] for layer in layers]
        result: list[Tensor | None] = [None] * len(stage.evidence)
        for group in groups:
            for layer, counts in zip(group, self._counts(stage, group), strict=True):
                result[layer] = counts
        if self.heads == "each":
            return result
        means = {layer: float(found.float().mean()) for layer, found in _given(result)}
        return counts_by_layer(stage, means)

    def _counts(self, stage: Stage, layers: list[int]) -> list[Tensor]:
        """(kv_heads,) of each of `layers`, whose sum is what they may keep."""
        scores, owners, fixed = [], [], []
        heads = 0
        for layer in layers:
            one, score = stage.evidence[layer], stage.scores[layer]
            assert one is not None and score is not None
            always = one.always.sum(1).cpu()
            own = int(self.floor * stage.tokens)
            least = torch.maximum(always, torch.full_like(always, max(1, own)))
            fixed.append(torch.minimum(least, one.valid.sum(1).cpu()))
            # A head's best tokens are its own already; only what is beyond them competes.
            ranked = score.float().masked_fill(~one.competing, -torch.inf)
            best = ranked.sort(dim=1, descending=True).values.cpu()
            for head in range(one.kv_heads):
                mine = best[head, int(fixed[-1][head] - always[head]) :]
                mine = mine[mine > -torch.inf]
                scores.append(mine)
                owners.append(torch.full((len(mine),), heads, dtype=torch.long))
                heads += 1
        counts = torch.cat(fixed)
        left = max(0, stage.tokens * heads - int(counts.sum()))
        pool, owner = torch.cat(scores), torch.cat(owners)
        chosen = pool.sort(descending=True, stable=True).indices[:left]
        counts = counts + torch.bincount(owner[chosen], minlength=heads)
        found = counts.split([len(one) for one in fixed])
        return [
            one.to(stage.evidence[layer].keys.device)  # type: ignore[union-attr]
            for one, layer in zip(found, layers, strict=True)
        ]


def _given(counts: list[Tensor | None]) -> list[tuple[int, Tensor]]:
    return [(layer, found) for layer, found in enumerate(counts) if found is not None]
