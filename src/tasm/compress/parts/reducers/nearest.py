"""Merging into the most similar kept token, wherever it stands: LOOK-M, D2O, ToMe, EMS.

Wan et al., "LOOK-M", arXiv 2406.18139, equations (5) to (8); Wan et al., "D2O", arXiv 2406.13035,
section 3.3; Bolya et al., "ToMe", arXiv 2210.09461, section 3; Li et al., "EMS", arXiv 2412.08521.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tasm.backbone.attention.kernels import numbers_at_once
from tasm.compress.evidence import Evidence, Selection, lengths
from tasm.compress.parts.base import Reducer
from tasm.compress.parts.reducers.averaging import finished, weighted_merge
from tasm.memory.layer import LayerTokens
from tasm.memory.per_head import packed, take

_BLOCK = 1 << 22

Weighting = Literal["average", "pivot", "similarity", "exponential", "count"]


@dataclass(frozen=True)
class NearestMerge(Reducer):
    """Every token that leaves joins the kept token of largest key cosine, if that is large enough.

    | setting | |
    |---|---|
    | `weighting` | "average": all weigh 1 (LOOK-M's averaged merge); "pivot": the mean of k_c and of (k_e + k_c)/2 for each of its tokens (pivotal merge); "similarity": a token weighs its cosine (weighted merge); "exponential": exp(cosine) against e for the sink (D2O); "count": what it stands for (ToMe) |
    | `threshold` | smallest cosine that merges, or "mean": the mean over tokens that leave (D2O's threshold at its first step) |
    | `among` | "images": only image tokens merge, others drop; "everything" |
    | `similarity` | of "keys", or "keys*values": product of both cosines, a negative one counting as 0 (EMS) |
    | `merge` | "keys+values", or only "values" |
    | `keys` | average keys "plain" (before rotation) or "rotated" (as these papers do) |
    | `layers` | "all", or only those "below the mean", which keep fewer tokens than the mean layer: others look single tokens up, and keep them as they are |
    | `least_share` | of tokens that leave, the share with the lowest scores that is dropped unmerged (EMS) |
    | `keep_norm` | "mean": keys are averaged as directions, and get the mean length of their parts (EMS) |
    | `count_bias` | α of a bias α·log(count) on the logits (ToMe's proportional attention: 1) |

    Differs from the papers in: merging happens once, after selection; keys are averaged before
    rotation unless `keys` says otherwise; query heads of a KV head merge alike; D2O's threshold is
    not carried on from step to step.
    """  # noqa: E501

    weighting: Weighting = "average"
    threshold: float | Literal["mean"] = -1.0
    among: Literal["images", "everything"] = "everything"
    similarity: Literal["keys", "keys*values"] = "keys"
    merge: Literal["keys+values", "values"] = "keys+values"
    keys: Literal["plain", "rotated"] = "plain"
    layers: Literal["all", "below the mean"] = "all"
    least_share: float = 0.0
    keep_norm: Literal["no", "mean"] = "no"
    count_bias: float = 0.0

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> LayerTokens:
        """Return the kept entries with what was merged into them."""
        above = self.layers == "below the mean" and _mean(selection) >= evidence.budget
        if above or selection.order.shape[1] == 0:
            alone = take(evidence.values, selection.order).float()
            counts = take(evidence.counts, selection.order)
            return finished(evidence, selection, None, alone, counts, self.keys, self.count_bias)
        keys = evidence.plain_keys if self.keys == "plain" else evidence.keys
        values = evidence.values
        slot, cosine = _nearest(evidence, selection, keys, values, self.similarity)
        merges = self._merging(evidence, selection, scores, cosine)
        weights, own = self._weights(evidence, cosine, merges)
        if self.weighting == "pivot":
            # The mean of k_c and n times (k_e + k_c)/2: a token weighs ½, the kept one 1 + n/2.
            received = torch.zeros_like(own).scatter_add(1, slot, merges.float())
            own = 1 + received.gather(1, selection.slot) / 2
        averaged_keys, averaged_values = weighted_merge(
            selection, slot, weights, own, [keys, values]
        )
        if self.keep_norm == "mean":
            length = lengths(keys)
            one = length.clamp(min=1e-12)
            directions = weighted_merge(selection, slot, weights / one, own / one, [keys])[0]
            norms = weighted_merge(selection, slot, weights, own, [length[..., None]])[0]
            averaged_keys = normalize(directions, dim=-1) * norms
        del keys
        gained = torch.where(merges, evidence.counts, 0.0)
        return finished(
            evidence,
            selection,
            averaged_keys if self.merge == "keys+values" else None,
            averaged_values,
            take(evidence.counts, selection.order).scatter_add(1, slot, gained),
            self.keys,
            self.count_bias,
        )

    def _merging(
        self, evidence: Evidence, selection: Selection, scores: Tensor, cosine: Tensor
    ) -> Tensor:
        """(kv_heads, entries) bool: which entries merge."""
        leaves = evidence.valid & ~selection.kept & cosine.isfinite()
        if self.among == "images":
            leaves &= evidence.is_image
        if self.least_share > 0:
            ordered = scores.masked_fill(~leaves, -torch.inf).argsort(dim=1, descending=True)
            rank = torch.empty_like(ordered).scatter_(
                1, ordered, torch.arange(ordered.shape[1], device=ordered.device).expand_as(ordered)
            )
            leaves &= rank < (leaves.sum(1, keepdim=True) * (1 - self.least_share)).ceil()
        if self.threshold == "mean":
            total = torch.where(leaves, cosine, 0.0).sum(1, keepdim=True)
            least: Tensor | float = total / leaves.sum(1, keepdim=True).clamp(min=1)
        else:
            least = float(self.threshold)
        return leaves & (cosine >= least)

    def _weights(self, evidence: Evidence, cosine: Tensor, merges: Tensor) -> tuple[Tensor, Tensor]:
        """(kv_heads, entries) what an entry weighs when it leaves, and when it receives."""
        one = torch.ones_like(evidence.counts)
        leaving, own = {
            "average": (one, one),
            "pivot": (one / 2, one),
            "similarity": (cosine.clamp(min=0), one),
            "exponential": (cosine.exp(), one * torch.e),
            "count": (evidence.counts, evidence.counts),
        }[self.weighting]
        return torch.where(merges, leaving, 0.0), own


def _mean(selection: Selection) -> float:
    """Tokens kept a head."""
    return float(selection.counts.float().mean())


def _nearest(
    evidence: Evidence, selection: Selection, keys: Tensor, values: Tensor, similarity: str
) -> tuple[Tensor, Tensor]:
    """For every entry that leaves the slot of the most similar kept entry of a demonstration, and
    that cosine."""
    receives = take(selection.kept & evidence.competing, selection.order)
    vectors = [keys] if similarity == "keys" else [keys, values]
    leaves = evidence.valid & ~selection.kept
    return nearest_slots(selection, vectors, leaves, receives)


def nearest_slots(
    selection: Selection, vectors: list[Tensor], leaves: Tensor, receives: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (kv_heads, entries) for every entry that `leaves` (kv_heads, entries) the slot of
    largest cosine among those that `receives` (kv_heads, kept) marks, and that cosine; -inf where
    there is none, and for entries that stay.

    With several `vectors` (kv_heads, entries, …) the product of their cosines counts, a negative
    one as 0. Sources are taken in blocks: no similarity of all with all is held.
    """
    order, sources = selection.order, packed(leaves)
    sinks = [normalize(take(vector, order).float(), dim=-1).transpose(1, 2) for vector in vectors]
    slots = torch.zeros_like(leaves, dtype=torch.long)
    cosines = torch.full(leaves.shape, -torch.inf, device=leaves.device)
    size = numbers_at_once(vectors[0].numel() // 4, 0, _BLOCK, leaves.device)
    for block in sources.split(max(1, size // max(1, order.numel())), 1):
        product = _cosines(vectors[0], block, sinks[0])
        for number in range(1, len(vectors)):
            product.clamp_(min=0).mul_(
                _cosines(vectors[number], block, sinks[number]).clamp_(min=0)
            )
        best = product.masked_fill_(~receives[:, None, :], -torch.inf).max(-1)
        slots.scatter_(1, block, best.indices)
        cosines.scatter_(1, block, best.values)
    return slots, cosines.masked_fill(~leaves, -torch.inf)


def _cosines(vectors: Tensor, block: Tensor, sinks: Tensor) -> Tensor:
    """(kv_heads, block, kept) cosines of the entries `block` with unit vectors `sinks`."""
    return normalize(take(vectors, block).float(), dim=-1) @ sinks
