"""From scores and counts to a selection: which entries a layer keeps and which originals are
banked."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, Selection
from tasm.compress.parts.base import Scorer
from tasm.errors import TasmError
from tasm.memory.layer import LayerTokens
from tasm.memory.per_head import ranks


def select(
    evidence: Evidence, scores: Tensor, counts: Tensor, bank: Tensor, bank_choice: str
) -> Selection:
    """Keep the best `counts` (kv_heads,) entries of every head, then bank the best `bank`
    (kv_heads,) originals.

    Entries that are always kept come first; entries that stand for several tokens are never banked.
    """
    scores = scores.float()
    if not bool(scores.masked_fill(~evidence.valid, 0).isfinite().all()):
        raise TasmError(
            f"The scorer gave scores of layer {evidence.layer} that are not finite numbers; "
            f"nothing was built. Expected finite scores of shape {tuple(evidence.index.shape)}."
        )
    low, high = float("-inf"), float("inf")
    placed = scores.masked_fill(evidence.always, high).masked_fill(~evidence.valid, low)
    held = torch.minimum(counts.to(scores.device), evidence.valid.sum(1))
    held = torch.maximum(held, evidence.always.sum(1))
    kept = ranks(placed) < held[:, None]
    if not bool(bank.any()):
        return Selection(kept, torch.zeros_like(kept))
    originals = evidence.valid & ~kept & (evidence.counts == 1)
    wish = bank_scores(evidence, scores, bank_choice)
    ranked = ranks(wish.masked_fill(~originals, low))
    return Selection(kept, originals & (ranked < bank.to(scores.device)[:, None]), wish)


def bank_scores(evidence: Evidence, scores: Tensor, bank_choice: str) -> Tensor:
    """Return (kv_heads, entries) what decides about the bank: "score", "images" first, or
    "random"."""
    if bank_choice == "score":
        return scores
    if bank_choice == "images":
        return scores + evidence.is_image * (scores.max() - scores.min() + 1)
    if bank_choice == "random":
        return evidence.draws("bank").to(scores.device)
    raise TasmError(f"A bank is chosen by 'score', 'images' or 'random', not by {bank_choice!r}.")


def best_of(layer: LayerTokens, tokens: Tensor) -> LayerTokens:
    """The `tokens` (kv_heads,) of largest score, in the order of the transcript."""
    assert layer.scores is not None
    scores, padding = layer.scores, layer.padding
    if padding is None:
        return layer.where(ranks(scores) < tokens.to(scores.device)[:, None])
    ranked = ranks(scores.masked_fill(padding, -torch.inf))
    return layer.where(~padding & (ranked < tokens.to(scores.device)[:, None]))


def shared_scores(
    scorer: Scorer,
    evidence: Sequence[Evidence | None],
    scores: Sequence[Tensor | None],
    notes: dict[str, Any],
) -> list[Tensor | None]:
    """Return scores (kv_heads, entries) by layer: another layer's where `scorer.source_layer` says
    so, because a few layers may choose for all (FastV, DELTA).

    An entry takes the score of its transcript token in the source layer, and the lowest there if
    that layer no longer holds it. Where the source does not compete (a sliding window), the next
    layer that does is the source, and `notes["score_sources"]` lists [wanted, taken].
    """
    result: list[Tensor | None] = []
    moved: set[tuple[int, int]] = set()
    for layer, (one, own) in enumerate(zip(evidence, scores, strict=True)):
        wanted = scorer.source_layer(layer, len(scores))
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
