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
from tasm.memory.per_head import take


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
        group = asked.queries.shape[1]
        most = max(1, asked.rows * group * order.shape[1])
        step = max(1, evidence.block // most)  # heads at once: one by one where they are large
        result = values.clone()
        for first in range(0, evidence.kv_heads, step):
            some = slice(first, first + step)
            target, given = targets(asked.heads(some), evidence, some, selection)
            fitted = ridge(given, target, values[some].float(), self.ridge, selection.counts[some])
            result[some] = fitted.to(values.dtype)
            del target, given, fitted  # the next heads' are made without these
        return replace(kept_tokens, values=result, bias=None)


def targets(
    mine: Asked, evidence: Evidence, heads: slice, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Return (kv_heads, rows, head_dim) what the kept tokens' part of the output should be, and
    (kv_heads, rows, kept) their weights, none on padding; `mine` is what these `heads` were asked,
    rows of all query heads of a KV head follow each other."""
    order = selection.order[heads]
    keys, index, values = evidence.keys[heads], evidence.index[heads], evidence.values[heads]
    padding = torch.arange(order.shape[1], device=order.device) >= selection.counts[heads, None]
    kept_keys, kept_index = take(keys, order), index.gather(1, order)
    kept_index = kept_index.masked_fill(padding, torch.iinfo(kept_index.dtype).max)  # unseen
    tokens = order.shape[1] if mine.recorded is not None else keys.shape[1]
    step = max(1, evidence.block // evidence.kv_heads // max(1, mine.queries.shape[1] * tokens))
    sizes = (*mine.queries.shape[:3], order.shape[1])
    wanted = []
    given = torch.empty(sizes, device=order.device)  # filled: never there twice
    for first in range(0, mine.rows, step):
        some = slice(first, first + step)
        live = mine.live[:, :, some].float()
        weights = mine.weights(kept_keys, kept_index, some)
        mass = (weights.sum(-1) + mine.rest[:, :, some]).clamp(min=1e-12)[..., None]
        wanted.append(mine.output(keys, index, values, some) - live / mass)
        given[:, :, some] = weights.div_(mass)
        del weights
    return torch.cat(wanted, 2).flatten(1, 2), given.flatten(1, 2)


def ridge(
    given: Tensor, target: Tensor, towards: Tensor, strength: float, tokens: Tensor
) -> Tensor:
    """Return V (heads, tokens, width) that minimises ‖given·V − target‖² + λ‖V − towards‖² in every
    head.

    λ is `strength` times the mean diagonal of givenᵀ·given over a head's `tokens` (heads,), `given`
    (heads, rows, tokens) with nothing on what is not one of them, `target` (heads, rows, width).
    All heads are solved for at once.
    """
    missing = target - given @ towards
    turned = given.transpose(1, 2)
    has_few_rows = given.shape[1] < given.shape[2]
    system = given @ turned if has_few_rows else turned @ given
    wanted = missing if has_few_rows else turned @ missing
    squares = system.diagonal(dim1=1, dim2=2).sum(1)  # of all of `given`, either way round
    penalty = strength * squares / tokens.clamp(min=1)
    # With no weight at all nothing is missing either.
    found = _solved(system, penalty.clamp(min=1e-30)[:, None], wanted)
    return towards + (turned @ found if has_few_rows else found)


def _solved(system: Tensor, penalty: Tensor, wanted: Tensor) -> Tensor:
    """X with (system + penalty·1)·X = wanted; the symmetric system is factored where it lies."""
    system.diagonal(dim1=1, dim2=2).add_(penalty)
    matrix = system.mT  # the same, being symmetric; columns lie together, so nothing is copied
    pivots = torch.empty(matrix.shape[:2], dtype=torch.int32, device=matrix.device)
    info = torch.empty(matrix.shape[:1], dtype=torch.int32, device=matrix.device)
    torch.linalg.lu_factor_ex(matrix, out=(matrix, pivots, info))
    return torch.linalg.lu_solve(matrix, pivots, wanted)
