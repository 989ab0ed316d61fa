"""Kept values fitted so that the layer's output stays what it was: attention matching.
Knows reference rows and one layer; not who chose the kept tokens.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, Selection
from tasm.compress.parts.attended import asked_of
from tasm.compress.parts.base import Reducer
from tasm.compress.records.references import Asked, References
from tasm.memory.layer import LayerTokens


@dataclass(frozen=True)
class FittedValues(Reducer):
    """Keys stay; values V minimise Σ over reference rows ‖Σ_j x_j V_j − y‖² + λ‖V − V₀‖².

    x_j are a row's attention weights when only the kept tokens and what is not the memory remain, y
    its output before, less what is not the memory gives now, V₀ the kept values, λ `ridge` times
    the mean diagonal of XᵀX. In closed form, head by head, over the rows or over the tokens,
    whichever are fewer.

    | setting | |
    |---|---|
    | `ridge` | how strongly values are held to what they were |
    | `source`, `at_most` | reference rows of a "replay" or of the first "reading", and how many |

    Source: Zweiger et al., "Attention Matching", arXiv 2602.16284, section 3, from which it differs
    by the ridge, by image rows among the references, and by having no bias.
    """

    ridge: float = 1.0
    source: Literal["replay", "reading"] = "replay"
    at_most: int = 384

    @property
    def records(self) -> tuple[References, ...]:
        """The reference rows, if they are those of the first reading."""
        return (References(at_most=self.at_most),) if self.source == "reading" else ()

    @property
    def replayed(self) -> tuple[References, ...]:
        """The reference rows, if demonstrations are read again."""
        return (References(at_most=self.at_most),) if self.source == "replay" else ()

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> LayerTokens:
        """Return the kept entries with other values."""
        order = selection.order
        kept_tokens = evidence.held.at(order, selection.lengths)
        values = kept_tokens.values
        asked = asked_of(self, evidence)
        if asked.rows == 0:
            return replace(kept_tokens, bias=None)
        fitted = []
        for head in range(evidence.kv_heads):
            kept = int(selection.counts[head])
            mine = asked.head(head)
            target, given = targets(mine, evidence, head, order[head, :kept])
            fitted.append(ridge(given, target, values[head, :kept].float(), self.ridge))
        result = values.clone()
        for head, found in enumerate(fitted):
            result[head, : found.shape[0]] = found.to(values.dtype)
        return replace(kept_tokens, values=result, bias=None)


def targets(mine: Asked, evidence: Evidence, head: int, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return (rows, head_dim) what the kept tokens' part of the output should be, and (rows, kept)
    their weights; rows of all query heads of a KV head follow each other."""
    values = evidence.values[head : head + 1].float()
    keys, index = evidence.keys[head : head + 1], evidence.index[head : head + 1]
    step = max(
        1, evidence.block // evidence.kv_heads // max(1, mine.queries.shape[1] * keys.shape[1])
    )
    wanted, given = [], []
    for first in range(0, mine.rows, step):
        some = slice(first, first + step)
        live = mine.live[:, :, some].float()
        output = mine.weights(keys, index, some) @ values[:, None] + live
        weights = mine.weights(keys[:, kept], index[:, kept], some)
        mass = (weights.sum(-1) + mine.rest[:, :, some]).clamp(min=1e-12)[..., None]
        wanted.append(output - live / mass)
        given.append(weights / mass)
    return torch.cat(wanted, 2).flatten(0, 2), torch.cat(given, 2).flatten(0, 2)


def ridge(given: Tensor, target: Tensor, towards: Tensor, strength: float) -> Tensor:
    """Return V (tokens, width) that minimises ‖given·V − target‖² + λ‖V − towards‖².

    λ is `strength` times the mean diagonal of givenᵀ·given, `given` (rows, tokens), `target` (rows,
    width).
    """
    rows, tokens = given.shape
    missing = target - given @ towards
    penalty = strength * float(given.pow(2).sum()) / max(1, tokens)
    if penalty <= 0:
        return towards
    if rows < tokens:
        system = given @ given.T
        system.diagonal().add_(penalty)
        return towards + given.T @ torch.linalg.solve(system, missing)
    system = given.T @ given
    system.diagonal().add_(penalty)
    return towards + torch.linalg.solve(system, given.T @ missing)
