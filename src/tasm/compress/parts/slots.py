"""Memory slots that tokens join or take over in reading order: CAMELoT.

He et al., "CAMELoT", arXiv 2402.13449, section 3.2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, Selection
from tasm.compress.parts.base import Reducer, Scorer
from tasm.compress.parts.reducers.averaging import finished, weighted_merge
from tasm.compress.parts.slot_writing import write_slots
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
        slots = max(1, evidence.budget - evidence.most_always)
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
        merged = weighted_merge(selection, slot, weights, evidence.counts, [keys, evidence.values])
        counts = take(evidence.counts, selection.order).scatter_add(1, slot, weights)
        return finished(evidence, selection, merged[0], merged[1], counts, "plain", self.count_bias)
