"""From scores and counts to a selection: which entries a layer keeps and which originals are
banked."""

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, Selection
from tasm.errors import TasmError


def ranks(scores: Tensor) -> Tensor:
    """Return (kv_heads, entries) the rank of every score in its head, 0 for the largest.

    Among equal scores the earlier entry comes first.
    """
    order = scores.sort(dim=1, descending=True, stable=True).indices
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def select(
    evidence: Evidence, scores: Tensor, counts: Tensor, bank: Tensor, bank_choice: str
) -> Selection:
    """Keep the best `counts` (kv_heads,) entries of every head, then bank the best `bank`
    (kv_heads,) originals.

    Entries that are always kept come first; entries that stand for several tokens are never banked.
    """
    scores = scores.float()
    if not bool(torch.isfinite(scores[evidence.valid]).all()):
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
