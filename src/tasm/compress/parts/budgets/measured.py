"""Tokens where their loss is felt: layer budgets from measured error curves.
Knows reference queries and scores; not how kept tokens are reduced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from tasm.compress.evidence import Evidence, Stage
from tasm.compress.parts.attended import asked_of
from tasm.compress.parts.base import Budget
from tasm.compress.parts.budgets.neyman import output_projection
from tasm.compress.parts.budgets.shares import bank_by_layer, counts_by_layer
from tasm.compress.records.references import Asked, References
from tasm.memory.per_head import take

_POINTS = 16
_ROWS = 256
"""Reference rows of a curve, at most."""

Relative = Literal["after", "before", "nothing"]


@dataclass(frozen=True)
class Measured(Budget):
    """Tokens go where the error of what a layer adds to the residual stream falls fastest.

    With the t best tokens of every head kept, layer l's attention output changes by
    e = W_O(o′ − o) for a reference row, o and o′ before and after. E_l(t) = mean over rows of
    ‖e‖² / mean square of the residual stream after the layer; the curve's square is taken, its
    lower convex hull, and the budget is spent on the steepest slopes of all layers.

    | setting | |
    |---|---|
    | `relative` | what ‖e‖² is divided by: the stream "after" the layer, "before" it, or "nothing" |
    | `power` | p of E^p |
    | `floor` | share of an even share that every layer keeps |
    | `source`, `at_most` | reference rows of a "replay" or of the first "reading", and how many |

    Source: this project (docs/experiments.md).
    """  # noqa: E501

    relative: Relative = "after"
    power: float = 2.0
    floor: float = 1 / 3
    at_most: int = 384
    source: Literal["replay", "reading"] = "replay"

    @property
    def _references(self) -> References:
        return References(at_most=self.at_most)

    @property
    def records(self) -> tuple[References, ...]:
        """The reference rows, if they are those of the first reading."""
        return (self._references,) if self.source == "reading" else ()

    @property
    def replayed(self) -> tuple[References, ...]:
        """The reference rows, if demonstrations are read again."""
        return (self._references,) if self.source == "replay" else ()

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return (kv_heads,) counts by layer."""
        wishes = self._wishes(stage, stage.tokens)
        stage.notes["layer_tokens"] = [round(wishes[layer]) for layer in stage.competing]
        return counts_by_layer(stage, wishes)

    def allocate_bank(
        self, stage: Stage, core: list[Tensor | None], bank: int
    ) -> list[Tensor | None]:
        """Return (kv_heads,) originals each layer banks, those of earlier chunks included."""
        return bank_by_layer(stage, core, self._wishes(stage, stage.tokens + bank), bank)

    def _wishes(self, stage: Stage, mean: int) -> dict[int, float]:
        """Tokens by layer, `mean` in the mean."""
        if self not in stage.known:
            stage.known[self] = self._curves(stage)
        curves = stage.known[self]
        return steepest(curves, mean * len(curves), self.floor * mean)

    def _curves(self, stage: Stage) -> dict[int, tuple[list[int], list[float]]]:
        """Tokens and errors by layer."""
        curves = {}
        for layer in stage.competing:
            one, scores = stage.evidence[layer], stage.scores[layer]
            assert one is not None and scores is not None
            asked = asked_of(self, one)
            scale = self._scale(stage, layer, asked)
            some = asked.at_most(_ROWS)
            scale = scale[:: max(1, -(-asked.rows // _ROWS))]
            tokens, errors = error_curve(one, some, scores, scale)
            curves[layer] = (tokens, [error**self.power for error in errors])
        return curves

    def _scale(self, stage: Stage, layer: int, asked: Asked) -> Tensor:
        """(rows,) what the squared error of each row is divided by."""
        if self.relative == "nothing":
            return torch.ones_like(asked.scale)
        if self.relative == "after" and layer + 1 < len(stage.evidence):
            later = stage.evidence[layer + 1]
            if later is not None:
                found = asked_of(self, later)
                if found.rows == asked.rows:
                    return found.scale.to(asked.scale.device)
                return found.scale.mean().to(asked.scale.device).expand(asked.rows)
        return asked.scale


def error_curve(
    evidence: Evidence, asked: Asked, scores: Tensor, scale: Tensor
) -> tuple[list[int], list[float]]:
    """Return numbers of tokens, ascending, and the error with that many of the best kept.

    The error is the mean over rows of ‖W_O(o′ − o)‖² / scale, `scale` (rows,).
    """
    low, high = float("-inf"), float("inf")
    placed = scores.float().masked_fill(evidence.always, high).masked_fill(~evidence.valid, low)
    order = placed.sort(dim=1, descending=True, stable=True).indices
    edges = grid(max(1, evidence.most_always), evidence.most_held)
    sizes = [stop - start for start, stop in zip([0, *edges[:-1]], edges, strict=True)]
    projection = output_projection(evidence)
    sums = torch.zeros(len(edges), device=scores.device)
    # Neither outputs at all points nor weights of the longest part are more than a block.
    longest = max(len(edges) * evidence.keys.shape[2], *sizes)
    heads = asked.queries.shape[0] * asked.queries.shape[1]
    step = max(1, evidence.block // max(1, heads * longest))
    for first in range(0, asked.rows, step):
        some = slice(first, first + step)
        outputs = []
        start = 0
        for run in _runs(sizes):  # a sorted layer is never held whole
            part, start = order[:, start : start + sum(run)], start + sum(run)
            weights = asked.weights(take(evidence.keys, part), take(evidence.index, part), some)
            group, rows = weights.shape[1:3]
            # With a column that sums the weights.
            values = pad(take(evidence.values, part).float(), (0, 1), value=1.0)
            split = zip(weights.flatten(1, 2).split(run, 2), values.split(run, 1), strict=True)
            outputs += [paid @ there for paid, there in split]
            del weights, values, split
        summed = torch.stack(outputs)  # (points, kv_heads, group · rows, head_dim + 1)
        del outputs
        summed = summed.cumsum_(0).unflatten(2, (group, rows))
        mass = summed[..., -1:] + asked.rest[:, :, some, None]
        output = summed[..., :-1].add_(asked.live[:, :, some].float())
        output.div_(mass.clamp_(min=1e-12))
        error = output[:-1].sub_(output[-1])
        flat = error.permute(0, 3, 1, 2, 4).flatten(2)  # (points, rows, query_heads · head_dim)
        far = projected(projection, flat, evidence.keys).pow(2).sum(-1)
        sums[:-1] += (far / scale[some]).sum(1)  # with every token there is none
    return edges, (sums / max(1, asked.rows)).tolist()


def _runs(sizes: Sequence[int]) -> list[list[int]]:
    """Sizes in order, so many together as are no more than the largest."""
    runs: list[list[int]] = [[]]
    for size in sizes:
        if sum(runs[-1]) + size > max(sizes):
            runs.append([])
        runs[-1].append(size)
    return runs


def projected(projection: torch.nn.Module, heads: Tensor, like: Tensor) -> Tensor:
    """Return W_O of (…, query_heads · head_dim), without a bias, float32."""
    if type(projection) is torch.nn.Linear and projection.weight.device.type != "meta":
        return heads @ projection.weight.detach().float().T
    said: Tensor = projection(heads.to(like.dtype)).float()
    return said - projection(torch.zeros_like(heads[..., :1, :], dtype=like.dtype)).float()


def grid(least: int, most: int) -> list[int]:
    """Return numbers from `least` to `most` at about equal ratios, both included.

    ```python
    >>> grid(1, 16)[:6]
    [1, 2, 3, 4, 5, 6]
    ```
    """
    if least >= most:
        return [most]
    ratio = (most / least) ** (1 / (_POINTS - 1))
    return sorted({least, most, *(round(least * ratio**n) for n in range(_POINTS))})


def steepest(
    curves: Mapping[int, tuple[Sequence[int], Sequence[float]]], total: float, least: float
) -> dict[int, float]:
    """Return tokens by layer: `least` each, then the rest to the steepest slopes of the curves'
    lower convex hulls until `total` is spent, and what no slope asks for evenly.

    ```python
    >>> steepest({0: ([1, 4], [9.0, 0.0]), 1: ([1, 4], [3.0, 0.0])}, 6, 1)
    {0: 4.0, 1: 2.0}
    ```
    """
    counts: dict[int, float] = {}
    slopes: list[tuple[float, int, float]] = []
    for layer, (tokens, errors) in curves.items():
        start = min(max(least, float(tokens[0])), float(tokens[-1]))
        counts[layer] = start
        points = [(start, _at(tokens, errors, start))]
        points += [(float(t), e) for t, e in zip(tokens, errors, strict=True) if t > start]
        hull = lower_hull(points)
        slopes += [
            ((here[1] - there[1]) / (there[0] - here[0]), layer, there[0] - here[0])
            for here, there in pairwise(hull)
        ]
    left = total - sum(counts.values())
    for slope, layer, length in sorted(slopes, key=lambda one: -one[0]):
        if slope <= 0:
            break
        taken = min(max(0.0, left), length)
        counts[layer] += taken
        left -= taken
    # What makes no difference, or was never measured for want of rows, is divided evenly.
    return {layer: count + max(0.0, left) / len(counts) for layer, count in counts.items()}


def lower_hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of the largest convex curve under `points`, ascending in the first."""
    hull: list[tuple[float, float]] = []
    for point in points:
        while len(hull) >= 2 and _turns(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _turns(
    first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]
) -> bool:
    """Whether the middle point lies on or above the line between the others."""
    rise = (last[1] - first[1]) * (middle[0] - first[0])
    return (middle[1] - first[1]) * (last[0] - first[0]) >= rise


def _at(tokens: Sequence[int], errors: Sequence[float], place: float) -> float:
    """A curve's value between its points."""
    for number in range(len(tokens) - 1):
        left, right = tokens[number], tokens[number + 1]
        if left <= place <= right:
            part = (place - left) / (right - left)
            return errors[number] * (1 - part) + errors[number + 1] * part
    return errors[0] if place < tokens[0] else errors[-1]
