"""TASM's merging: a token that leaves is averaged into the most similar kept token near it.

Chen, Shao, Chen, arXiv 2606.11853, equations (11) to (14).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, Selection
from tasm.compress.parts.base import Reducer
from tasm.compress.parts.matching import Matches, Metric, TextScope, match_images, match_text
from tasm.compress.parts.reducers.averaging import finished, weighted_merge
from tasm.memory.layer import LayerTokens
from tasm.memory.per_head import take


@dataclass(frozen=True)
class SpatialMerge(Reducer):
    """Merges sources into sinks with weights that grow with the cosine, values alike.

    k̂_j = (c_j·w_jj·k_j + Σ c_i·w_ij·k_i) / (c_j·w_jj + Σ c_i·w_ij), w_ij = exp(s·cos(k_i, k_j)),
    where c counts what an entry already stands for. Equation (14) has c = 1, s = 1 and w_jj = 1:
    a source then weighs more than the sink it joins.

    | setting | |
    |---|---|
    | `window`, `metric` | how far image tokens reach: "chebyshev" side or "manhattan" distance |
    | `threshold` | smallest cosine that merges |
    | `sharpness` | s |
    | `sink_weight` | w_jj: "one", or "itself" for exp(s), the sink's cosine with itself |
    | `text_scope` | text merges inside its "demonstration", "anywhere", or with "nothing" |
    | `keys` | average keys "plain" (before rotation) or "rotated" (as printed) |
    | `sources` | "all" tokens that leave merge, or only the "unbanked" |
    | `count_bias` | α of a bias α·log(count) on the logits; 0 for none |
    """

    window: int = 3
    metric: Metric = "chebyshev"
    threshold: float = 0.5
    sharpness: float = 1.0
    sink_weight: Literal["one", "itself"] = "one"
    text_scope: TextScope = "demonstration"
    keys: Literal["plain", "rotated"] = "plain"
    sources: Literal["all", "unbanked"] = "all"
    count_bias: float = 0.0

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> LayerTokens:
        """Return the kept entries with what was merged into them."""
        keys = evidence.plain_keys if self.keys == "plain" else evidence.keys
        matches = self._match(evidence, keys, selection)
        leaves = evidence.valid & ~selection.kept
        if self.sources == "unbanked":
            leaves &= ~selection.banked
        merges = leaves & (matches.similarity >= self.threshold)
        # Both relative to exp(s), which changes no average and overflows for no s.
        weights = torch.where(merges, (self.sharpness * (matches.similarity - 1)).exp(), 0.0)
        own = 1.0 if self.sink_weight == "itself" else math.exp(-self.sharpness)
        slot = selection.slot.gather(1, matches.sink.clamp(min=0))
        merged_keys, merged_values = weighted_merge(
            selection,
            slot,
            weights * evidence.counts,
            own * evidence.counts,
            [keys, evidence.values],
        )
        del keys
        gained = torch.where(merges, evidence.counts, 0.0)
        counts = take(evidence.counts, selection.order).scatter_add(1, slot, gained)
        return finished(
            evidence, selection, merged_keys, merged_values, counts, self.keys, self.count_bias
        )

    def _match(self, evidence: Evidence, keys: Tensor, selection: Selection) -> Matches:
        """Return what every entry would merge into; sinks are kept entries of demonstrations."""
        sinks = selection.kept & evidence.competing
        matches = match_images(evidence, keys, sinks & evidence.is_image, self.window, self.metric)
        text = match_text(evidence, keys, sinks & ~evidence.is_image, self.text_scope)
        return matches.better(text.sink, text.similarity)
