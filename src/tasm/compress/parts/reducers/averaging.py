"""What merging reducers end with: averages into kept entries, rotated at their sinks' places."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, Selection, pieces
from tasm.memory.layer import LayerTokens
from tasm.memory.per_head import flat_rows, take


def weighted_merge(
    selection: Selection, slot: Tensor, weights: Tensor, own: Tensor, vectors: list[Tensor]
) -> list[Tensor]:
    """Return each of `vectors` (kv_heads, entries, …) averaged into the kept entries, (kv_heads,
    kept, …) float32.

    Entry e joins kept entry `slot[h, e]` with `weights[h, e]` (0: not at all); the kept entry
    itself has weight `own[h, e]`. Weights of one kept entry are divided by their sum.
    """
    order = selection.order
    own_weight = take(own, order)
    total = own_weight.scatter_add(1, slot, weights)
    results = []
    for vector in vectors:
        gathered = take(vector, order).float() * own_weight[..., None]
        table = gathered.flatten(0, 1)
        for some in pieces(vector):
            weighted = (vector[:, some].float() * weights[:, some, None]).flatten(0, 1)
            table.index_add_(0, flat_rows(slot[:, some], order.shape[1]), weighted)
        results.append(gathered.div_(total[..., None]))
    return results


def finished(
    evidence: Evidence,
    selection: Selection,
    keys: Tensor | None,
    values: Tensor,
    counts: Tensor,
    keys_are: Literal["plain", "rotated"],
    count_bias: float = 0.0,
) -> LayerTokens:
    """Return merged `keys` (None: left alone) and `values`, (kv_heads, kept, head_dim) float32, as
    the layer's; plain keys are rotated at their sink's position.

    What nothing was merged into (`counts` unchanged) stays bit for bit what it was.
    """
    order = selection.order
    kept = evidence.held.at(order, selection.lengths)
    untouched = (counts == take(evidence.counts, order))[..., None]
    if keys is not None and keys_are == "plain":
        keys = evidence.rotated(keys, kept.index)
    if keys is not None:
        keys = torch.where(untouched, kept.keys, keys.to(kept.keys.dtype))
    return replace(
        kept,
        keys=kept.keys if keys is None else keys,
        values=torch.where(untouched, kept.values, values.to(kept.values.dtype)),
        originals=counts,
        bias=count_bias * counts.log() if count_bias else None,
    )
