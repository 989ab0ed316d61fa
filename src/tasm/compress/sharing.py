"""Layers that take their scores from another one: a few layers choose for all (FastV, DELTA).

Knows scores and evidence. A scorer asks for it by a method `source_layer(layer, layers)`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.protocols import Scorer


def shared_scores(
    scorer: Scorer,
    evidence: Sequence[Evidence | None],
    scores: Sequence[Tensor | None],
    notes: dict[str, Any],
) -> list[Tensor | None]:
    """Return scores (kv_heads, entries) by layer, where `scorer.source_layer` says so another's.

    An entry takes the score of its transcript token in the source layer, and the lowest there if
    that layer no longer holds it. Where the source does not compete (a sliding window), the next
    layer that does is the source, and `notes["score_sources"]` lists [wanted, taken].
    """
    source_of = getattr(scorer, "source_layer", None)
    if source_of is None:
        return list(scores)
    result: list[Tensor | None] = []
    moved: set[tuple[int, int]] = set()
    for layer, (one, own) in enumerate(zip(evidence, scores, strict=True)):
        wanted = source_of(layer, len(scores))
        later = range(wanted, len(scores))
        source = next((number for number in later if scores[number] is not None), layer)
        if one is not None and source != wanted:
            moved.add((wanted, source))
        given, giver = scores[source], evidence[source]
        if one is None or given is None or giver is None or source == layer:
            result.append(own)
            continue
        device = one.index.device
        table = torch.full((one.kv_heads, len(one.tokens)), -torch.inf, device=given.device)
        seen = given.masked_fill(~giver.valid, -torch.inf)
        table.scatter_reduce_(1, giver.index, seen, "amax")
        found = table.to(device).gather(1, one.index)
        lowest = given[giver.valid].min().to(device)
        result.append(torch.where(found.isfinite(), found, lowest))
    if moved:
        notes["score_sources"] = [list(pair) for pair in sorted(moved)]
    return result
