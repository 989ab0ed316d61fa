"""Merging runs of neighbouring alike tokens into their most attended one: KVMerger.

Wang et al., "Model Tells You Where to Merge", arXiv 2407.08454, algorithm 1 and equation (6).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, Selection
from tasm.compress.parts.attended import EVERYONE, attention_sums
from tasm.compress.parts.base import Reducer
from tasm.compress.parts.matching import cosines
from tasm.compress.parts.reducers.averaging import finished, weighted_merge
from tasm.memory.layer import LayerTokens
from tasm.memory.per_head import take


@dataclass(frozen=True)
class RunMerge(Reducer):
    """Tokens that leave join the kept token of their run with Gaussian weights.

    A run is a stretch of entries whose neighbours' keys have cosine ≥ `threshold`. Its pivot is the
    kept token that received most attention; g_i = exp(−‖k_p − k_i‖²/2σ²) with σ the sum of
    ‖k_p − k_i‖ over what merges, divided by √2·|S|, S being that and the pivot. The pivot's g is 1,
    k̂ = Σ g·k / Σ g and v̂ = |S|·Σ g·v / Σ g; `value_scale` = "one" leaves |S| out.

    Differs from the paper in:
    - σ is computed from distances, where the paper's text defines it by g itself, in a circle.
    - The budget decides how many tokens stay; the paper's budget is what its threshold leaves.
    - Runs without a kept token are dropped: kept are the budget's heavy hitters and recent tokens,
      where the paper merges every run and keeps heavy hitters out of runs.
    - Every demonstration ends a run. Keys are averaged before rotation (`keys` = "rotated" is
      the paper's).
    """

    threshold: float = 0.75
    keys: Literal["plain", "rotated"] = "plain"
    value_scale: Literal["size", "one"] = "size"
    count_bias: float = 0.0
    records = (EVERYONE,)

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> LayerTokens:
        """Return the kept entries with what was merged into them."""
        keys = evidence.plain_keys if self.keys == "plain" else evidence.keys
        run = self._runs(evidence, keys)
        pivot = _pivots(run, attention_sums(evidence), selection.kept & evidence.competing)
        merges = evidence.competing & ~selection.kept & (pivot >= 0)
        home = pivot.clamp(min=0)
        distance = torch.cat(
            [
                (keys[:, some].float() - take(keys, home[:, some])).norm(dim=-1)
                for some in evidence.pieces()
            ],
            1,
        )
        distance = torch.where(merges, distance, 0.0)
        size = torch.zeros_like(distance).scatter_add(1, run, merges.float()) + 1
        total = torch.zeros_like(distance).scatter_add(1, run, distance)
        sigma = (total / (2**0.5 * size)).gather(1, run).clamp(min=1e-12)
        weights = torch.where(merges, (-(distance**2) / (2 * sigma**2)).exp(), 0.0)
        slot = selection.slot.gather(1, home)
        own = torch.ones_like(weights)
        merged_keys, merged_values = weighted_merge(
            selection, slot, weights, own, [keys, evidence.values]
        )
        gained = torch.where(merges, evidence.counts, 0.0)
        del keys
        counts = take(evidence.counts, selection.order).scatter_add(1, slot, gained)
        if self.value_scale == "size":
            merged = torch.zeros_like(counts).scatter_add(1, slot, merges.float())
            merged_values = merged_values * (1 + merged)[..., None]
        return finished(
            evidence, selection, merged_keys, merged_values, counts, self.keys, self.count_bias
        )

    def _runs(self, evidence: Evidence, keys: Tensor) -> Tensor:
        """(kv_heads, entries) number of each entry's run."""
        before = torch.arange(-1, evidence.entries - 1, device=keys.device).clamp(min=0)
        alike = cosines(keys, before.expand_as(evidence.index))[:, 1:] >= self.threshold
        together = evidence.competing[:, 1:] & evidence.competing[:, :-1]
        same = evidence.demonstration[:, 1:] == evidence.demonstration[:, :-1]
        begins = torch.ones_like(evidence.valid)
        begins[:, 1:] = ~(alike & together & same)
        return begins.long().cumsum(1) - 1


def _pivots(run: Tensor, scores: Tensor, receives: Tensor) -> Tensor:
    """(kv_heads, entries) the receiving entry of the highest score in every entry's run, or -1."""
    wish = scores.masked_fill(~receives, -torch.inf)
    best = torch.full_like(wish, -torch.inf).scatter_reduce(1, run, wish, "amax")
    is_best = receives & (wish == best.gather(1, run))
    entries = torch.arange(run.shape[1], device=run.device).expand_as(run)
    chosen = torch.full_like(run, -1)
    chosen = chosen.scatter_reduce(1, run, torch.where(is_best, entries, -1), "amax")
    return chosen.gather(1, run)
