"""Small things made by hand that several methods are tried on."""

from typing import Any

import torch

from tasm.compress.evidence import Evidence, Selection, Stage
from tasm.compress.records.received import AttentionReceived, Received


def received(mass: list[list[float]]) -> dict[Any, Any]:
    """Attention from all rows, as a scorer finds it."""
    return {AttentionReceived("all"): Received(torch.tensor(mass), torch.ones(1, len(mass[0])))}


def selection(entries: int, kept: list[list[int]]) -> Selection:
    """Keep these entries of every head, bank none."""
    mask = torch.zeros(len(kept), entries, dtype=torch.bool)
    for head, one in enumerate(kept):
        mask[head, one] = True
    return Selection(mask, torch.zeros_like(mask))


def stage(evidence: list[Evidence | None], scores: list[Any], tokens: int) -> Stage:
    """A compression without a model behind it."""
    return Stage(
        evidence=tuple(evidence),
        scores=tuple(None if one is None else torch.as_tensor(one).float() for one in scores),
        tokens=tokens,
        reduce=None,  # type: ignore[arg-type]
        replay=None,  # type: ignore[arg-type]
    )
