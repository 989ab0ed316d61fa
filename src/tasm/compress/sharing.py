"""Layers that take their scores from another one: a few layers choose for all (FastV, DELTA).

Knows scores and evidence. A scorer asks for it by a method `source_layer(layer, layers)`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.protocols import Scorer


def shared_scores(
    scorer: Scorer, evidence: Sequence[Evidence | None], scores: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Return scores (kv_heads, entries) by layer, where `scorer.source_layer` says so another's.

    An entry takes the score of its transcript token in the source layer, and the lowest there if
    that layer no longer holds it. A source that does not compete is no source.
    """
    source_of = getattr(scorer, "source_layer", None)
    if source_of is None:
        return list(scores)
    result: list[Tensor | None] = []
    for layer, (one, own) in enumerate(zip(evidence, scores, strict=True)):
        source = source_of(layer, len(scores))
        given, giver = scores[source], evidence[source]
        if one is None or given is None or giver is None or source == layer:
            result.append(own)
            continue
        table = torch.full((one.kv_heads, len(one.tokens)), -torch.inf, device=given.device)
        seen = given.masked_fill(~giver.valid, -torch.inf)
        table.scatter_reduce_(1, giver.index, seen, "amax")
        found = table.gather(1, one.index)
        lowest = given[giver.valid].min()
        result.append(torch.where(found.isfinite(), found, lowest))
    return result
