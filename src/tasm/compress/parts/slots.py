"""Memory slots that tokens join or take over in reading order: CAMELoT.

He et al., "CAMELoT", arXiv 2402.13449, section 3.2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tasm.compress.evidence import Evidence, Selection
from tasm.compress.parts.base import Reducer, Scorer
from tasm.compress.parts.reducers.averaging import finished, weighted_merge
from tasm.memory.layer import LayerTokens
from tasm.memory.per_head import take


@dataclass(frozen=True)
class SlotFounders(Scorer):
    """Tokens that founded one of the M slots come first, the others by recency; M is the budget.

    Slots are written in reading order: a token whose key has cosine above `threshold` with a slot
    joins it, another one replaces the slot longest left alone (see `SlotMerge`).

    Differs from the paper in: keys are compared before rotation; R is not given, so 0.9 is a
    choice.
    """

    threshold: float = 0.9

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        slots = max(1, evidence.budget - int(evidence.always.sum(1).max()))
        founder = write_slots(
            evidence.plain_keys, evidence.counts, evidence.competing, slots, self.threshold
        )
        entries = torch.arange(evidence.entries, device=founder.device)
        return (founder == entries).float() * 2 + entries / evidence.entries


@dataclass(frozen=True)
class SlotMerge(Reducer):
    """k̂ = (c·k + k_i)/(c + 1) and v̂ alike for every token that joined a slot; tokens of slots that
    were replaced are dropped.

    Differs from the paper in: a slot stands at its first token's position; all slots are attended
    to, where the paper reads the one most similar slot for each token; keys are averaged before
    rotation.
    """

    threshold: float = 0.9
    count_bias: float = 0.0

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> LayerTokens:
        """Return the slots at their founders' places."""
        keys = evidence.plain_keys
        sinks = selection.kept & evidence.competing
        slots = max(1, int(sinks.sum(1).max()))
        founder = write_slots(keys, evidence.counts, evidence.competing, slots, self.threshold)
        home = founder.clamp(min=0)
        merges = (founder >= 0) & sinks.gather(1, home) & ~selection.kept
        weights = torch.where(merges, evidence.counts, 0.0)
        slot = selection.slot.gather(1, home)
        merged = weighted_merge(
            selection, slot, weights, evidence.counts, [keys, evidence.values.float()]
        )
        counts = take(evidence.counts, selection.order).scatter_add(1, slot, weights)
        return finished(evidence, selection, merged[0], merged[1], counts, "plain", self.count_bias)


def write_slots(
    keys: Tensor, counts: Tensor, writes: Tensor, slots: int, threshold: float
) -> Tensor:
    """Return (kv_heads, entries) int64 the entry that founded the slot each one is in at the end,
    or -1 for one that is in none.

    Entries `writes` (kv_heads, entries) are written one after the other: where the largest cosine
    with a slot's key is above `threshold` the slot takes it in, k ← (c·k + c_i·k_i)/(c + c_i);
    otherwise it replaces the slot that was longest left alone. `keys` is (kv_heads, entries,
    head_dim) float32, `counts` c_i (kv_heads, entries).
    """
    heads, entries, head_dim = keys.shape
    each = torch.arange(heads, device=keys.device)
    key = keys.new_zeros(heads, slots, head_dim)
    count = keys.new_zeros(heads, slots)
    # Empty slots are the oldest, the first of them the very oldest.
    age = torch.arange(slots, 0, -1, device=keys.device).expand(heads, -1) + float(entries)
    founder = torch.full((heads, slots), -1, device=keys.device)
    joined = torch.full((heads, entries), -1, device=keys.device)
    units, unit = normalize(keys, dim=-1), torch.zeros_like(key)
    for entry in range(entries):  # each token meets the slots that those before it have left
        active = writes[:, entry]
        cosine = (unit @ units[:, entry, :, None])[..., 0]
        best = cosine.masked_fill(count == 0, -torch.inf).max(-1)
        joins = best.values > threshold
        target = torch.where(joins, best.indices, age.argmax(-1))
        held = torch.where(joins, count[each, target], 0.0)
        weight = counts[:, entry]
        merged = held[:, None] * key[each, target] + weight[:, None] * keys[:, entry]
        merged = merged / (held + weight)[:, None]
        first = torch.where(joins, founder[each, target], entry)
        merged = torch.where(active[:, None], merged, key[each, target])
        key[each, target], unit[each, target] = merged, normalize(merged, dim=-1)
        count[each, target] = torch.where(active, held + weight, count[each, target])
        founder[each, target] = torch.where(active, first, founder[each, target])
        age = age + active[:, None]
        age[each, target] = torch.where(active, 0.0, age[each, target])
        joined[:, entry] = torch.where(active, first, -1)
    alive = torch.zeros(heads, entries + 1, dtype=torch.bool, device=keys.device)
    alive.scatter_(1, founder + 1, True)
    alive[:, 0] = False  # an empty slot has no founder
    return torch.where(alive.gather(1, joined + 1), joined, -1)
