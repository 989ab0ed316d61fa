"""TASM's merging: a token that leaves is averaged into the most similar kept token near it.

Chen, Shao, Chen, arXiv 2606.11853, equations (11) to (14).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tasm.build.evidence import Evidence, Reduced, Selection, flat_rows, take
from tasm.build.matching import Matches, Metric, TextScope, match_images, match_text


@dataclass(frozen=True)
class SpatialMerge:
    """Merges sources into sinks with weights exp(cosine), values with the same weights.

    k̂_j = (c_j·k_j + Σ c_i·exp(w_ij)·k_i) / (c_j + Σ c_i·exp(w_ij)), where c counts what an entry
    already stands for (1 at first, which is equation (14)).

    | setting | |
    |---|---|
    | `window`, `metric` | how far image tokens reach: "chebyshev" side or "manhattan" distance |
    | `threshold` | smallest cosine that merges |
    | `text_scope` | text merges inside its "demonstration", "anywhere", or with "nothing" |
    | `keys` | average keys "plain" (before rotation) or "rotated" (as printed) |
    | `sources` | "all" tokens that leave merge, or only the "unbanked" |
    | `count_bias` | α of a bias α·log(count) on the logits; 0 for none |
    """

    window: int = 3
    metric: Metric = "chebyshev"
    threshold: float = 0.5
    text_scope: TextScope = "demonstration"
    keys: Literal["plain", "rotated"] = "plain"
    sources: Literal["all", "unbanked"] = "all"
    count_bias: float = 0.0

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> Reduced:
        """Return the kept entries with what was merged into them."""
        keys = evidence.plain_keys if self.keys == "plain" else evidence.keys.float()
        matches = self.match(evidence, keys, selection)
        leaves = evidence.valid & ~selection.kept
        if self.sources == "unbanked":
            leaves &= ~selection.banked
        merges = leaves & (matches.similarity >= self.threshold)
        weights = torch.where(merges, matches.similarity.exp(), 0.0)
        slot = selection.slot.gather(1, matches.sink.clamp(min=0))
        averaged = weighted_merge(
            selection,
            slot,
            weights * evidence.counts,
            evidence.counts,
            [keys, evidence.values.float()],
        )
        counts = take(evidence.counts, selection.order)
        gained = torch.where(merges, evidence.counts, 0.0)
        counts = counts.scatter_add(1, slot, gained)
        merged_keys = averaged[0]
        if self.keys == "plain":
            positions = evidence.positions.gather(
                2, selection.order.expand(evidence.positions.shape[0], -1, -1)
            )
            merged_keys = evidence.rotary.rotate(evidence.layer, merged_keys, positions)
        untouched = (counts == take(evidence.counts, selection.order))[..., None]
        # What nothing was merged into stays bit for bit what it was.
        return Reduced(
            keys=torch.where(
                untouched, take(evidence.keys, selection.order), merged_keys.to(evidence.keys.dtype)
            ),
            values=torch.where(
                untouched,
                take(evidence.values, selection.order),
                averaged[1].to(evidence.values.dtype),
            ),
            counts=counts,
            bias=self.count_bias * counts.log() if self.count_bias else None,
        )

    def match(self, evidence: Evidence, keys: Tensor, selection: Selection) -> Matches:
        """Return what every entry would merge into; sinks are kept entries of demonstrations."""
        sinks = selection.kept & evidence.competing
        matches = match_images(evidence, keys, sinks & evidence.is_image, self.window, self.metric)
        text = match_text(evidence, keys, sinks & ~evidence.is_image, self.text_scope)
        return matches.better(text.sink, text.similarity)


def weighted_merge(
    selection: Selection, slot: Tensor, weights: Tensor, own: Tensor, vectors: list[Tensor]
) -> list[Tensor]:
    """Return each of `vectors` (kv_heads, entries, …) averaged into the kept entries, (kv_heads,
    kept, …).

    Entry e joins kept entry `slot[h, e]` with `weights[h, e]` (0: not at all); the kept entry
    itself has weight `own[h, e]`. Weights of one kept entry are divided by their sum.
    """
    order = selection.order
    own_weight = take(own, order)
    total = own_weight.scatter_add(1, slot, weights)
    results = []
    for vector in vectors:
        gathered = take(vector, order) * own_weight[..., None]
        weighted = (vector * weights[..., None]).flatten(0, 1)
        gathered.flatten(0, 1).index_add_(0, flat_rows(slot, order.shape[1]), weighted)
        results.append(gathered / total[..., None])
    return results
