"""Attention that entries receive while the demonstrations are read, and whose answer is whose."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tasm.backbone.attention.attention_call import AttentionCall
from tasm.backbone.attention.kernels import exponentials
from tasm.compress.records.record import BatchReading, Reading, Record
from tasm.compress.records.together import asked_by
from tasm.memory.per_head import take


@dataclass(frozen=True, eq=False)
class Received:
    """Attention that every entry received: `mass` (kv_heads, entries) float32, and `seen_by` (1 or
    kv_heads, entries) float32, how many of the chosen rows could see it."""

    mass: Tensor
    seen_by: Tensor

    @property
    def mean(self) -> Tensor:
        """(kv_heads, entries) mass per row that could see the entry."""
        return self.mass / self.seen_by.clamp(min=1)


@dataclass(frozen=True)
class AttentionReceived(Record):
    """Attention weights of the chosen rows on every entry: their sum over rows, or their maximum.

    Softmax over everything the rows can see, over the newest `chunk` alone (in a replay: the chunk
    in the memory and the row's own demonstration), or over the `memory` alone, what was read in
    earlier passes. `last_rows` are the rows of the model's last layer, None for the same. Averaged
    over the query heads of a KV head (for the maximum: the largest of them). State: `Received`.

    ```python
    AttentionReceived("answers")          # EMLoC, TASM: what answers look at
    AttentionReceived("last:32")          # SnapKV's observation window
    AttentionReceived("all")              # H2O's accumulated scores
    ```
    """

    rows: str = "answers"
    statistic: Literal["sum", "max"] = "sum"
    among: Literal["everything", "chunk", "memory"] = "everything"
    last_rows: str | None = None
    of_contexts: bool = False
    has_columns: ClassVar[bool] = True  # type: ignore[misc]
    takes_batches: ClassVar[bool] = True  # type: ignore[misc]

    @property
    def starts_anew(self) -> bool:  # type: ignore[override]
        """An observation window belongs to its stage only."""
        return self.rows.startswith("last")

    def observe(self, held: Received | None, reading: Reading) -> Received:
        """Add this pass's attention; new tokens get new columns."""
        rule = self.last_rows if reading.is_last and self.last_rows else self.rows
        return self.add(held, reading, reading.rows.select(rule))

    def add(self, held: Received | None, reading: Reading, rows: Tensor) -> Received:
        """Add the attention of the rows numbered `rows`."""
        call = reading.call
        before = sum(segment.tokens for segment in call.segments)
        columns, new = before + reading.new, reading.new
        kv_heads, device = call.key.shape[1], call.key.device
        mass = torch.zeros(kv_heads, columns, device=device)
        seen_by = torch.zeros(1, columns, device=device)
        if len(rows):
            first = before - reading.rows.chunk if self.among == "chunk" else 0
            stop = before if self.among == "memory" else columns
            mass[:, first:stop] = self._looks(call, rows, first, stop)
            seen_by[:, :before] = len(rows)
            seen_by[:, before:] = _visible(call.mask, rows, new)
        return self._with(held, Received(mass, seen_by))

    def observe_batch(self, held: Received | None, reading: BatchReading) -> Received:
        """Add what the rows of several demonstrations look at before their own tokens."""
        rule = self.last_rows if reading.is_last and self.last_rows else self.rows
        call, device = reading.call, reading.call.key.device
        chosen = reading.together.chosen(rule, lambda rows: rows.mask(rule), device)
        before = sum(segment.tokens for segment in call.segments)
        columns = before + reading.together.length
        mass = torch.zeros(call.key.shape[1], columns, device=device)
        seen_by = torch.zeros(1, columns, device=device)
        if len(chosen.flat):
            first = before - reading.together.rows[0].chunk if self.among == "chunk" else 0
            stop = before if self.among == "memory" else columns
            asked = asked_by(call, chosen)
            numbers = torch.arange(chosen.index.shape[1], device=device)
            looks = self._looks(asked, numbers, first, stop)
            mass[:, first:before] = looks[:, : before - first]
            seen_by[:, :before] = len(chosen.flat)
        return self._with(held, Received(mass, seen_by))

    def _with(self, held: Received | None, found: Received) -> Received:
        """What was held, and what was found; there may be more columns now."""
        if held is None:
            return found
        mass, seen_by = found.mass, found.seen_by
        old = held.mass.shape[1]
        if self.statistic == "max":
            mass[:, :old] = torch.maximum(mass[:, :old], held.mass)
        else:
            mass[:, :old] += held.mass
        seen = seen_by.expand(held.seen_by.shape[0], -1).clone()
        seen[:, :old] += held.seen_by
        return Received(mass, seen)

    def _looks(self, call: AttentionCall, rows: Tensor, begin: int, end: int) -> Tensor:
        """(kv_heads, end − begin) the attention on tokens from `begin` to `end`, as a part of what
        goes to these."""
        within = _within(call, rows, begin, end)
        found = None
        # A few rows by many tokens at a time: products of narrow blocks take three times as long.
        for some in rows.split(within.rows_at_once):
            blocks = [self._over_rows(one) for one in _until(within.log_weights(some), end)]
            found = self._both(found, torch.cat(blocks, -1))
        assert found is not None
        return found[:, begin:end].exp() if self.statistic == "max" else found[:, begin:end]

    def _both(self, held: Tensor | None, found: Tensor) -> Tensor:
        """What two groups of rows give together."""
        if held is None:
            return found
        return torch.maximum(held, found) if self.statistic == "max" else held + found

    def _over_rows(self, log_weights: Tensor) -> Tensor:
        """(batch, kv_heads, group, rows, tokens) to (kv_heads, tokens); a maximum stays a
        logarithm."""
        if self.statistic == "max":
            return log_weights.amax((0, 2, 3))
        return exponentials(log_weights).sum((0, 3)).mean(1)

    def keep(self, held: Received, order: Tensor) -> Received:
        """Columns follow their entries."""
        seen = held.seen_by.expand(order.shape[0], -1)
        return Received(take(held.mass, order), take(seen, order))


def _within(call: AttentionCall, rows: Tensor, begin: int, end: int) -> AttentionCall:
    """The call with a log-sum-exp over tokens from `begin` to `end` alone, for `rows`.

    `end` is where the live tokens begin, or where they end.
    """
    live = call.key.shape[2]
    before = sum(segment.tokens for segment in call.segments)
    outside = torch.zeros_like(call.log_sum_exp[:, :, rows])
    first = 0
    for block in _until(call.weights(rows), begin):
        outside += block[..., : begin - first].sum(-1).flatten(1, 2)
        first += block.shape[-1]
    if end < before + live:
        for block in replace(call, segments=()).weights(rows):
            outside += block.sum(-1).flatten(1, 2)
    if not begin and end == before + live:
        return call
    total = call.log_sum_exp.clone()
    total[:, :, rows] += (1 - outside).clamp(min=1e-12).log()
    return replace(call, log_sum_exp=total)


def _until(blocks: Iterator[Tensor], end: int) -> Iterator[Tensor]:
    """The blocks that hold tokens before `end`; later ones are never computed."""
    first = 0
    while first < end:
        block = next(blocks)
        first += block.shape[-1]
        yield block


def _visible(mask: Tensor | None, rows: Tensor, new: int) -> Tensor:
    """How many of `rows` see each of the pass's own tokens, (new,) float32."""
    if mask is not None:
        return (mask[0, 0, rows, -new:] > -1e4).sum(0).float()
    own = torch.arange(new, device=rows.device)
    return (rows[:, None] >= own).sum(0).float()


@dataclass(frozen=True)
class AttentionFromRaters(Record):
    """Attention from raters: text rows that look at this pass's images more than the mean text row.

    State: `Received`, with the raters' attention on every entry. Source: SparseVLM (arXiv
    2410.04417), equations (3) and (4), with attention in place of the embeddings' similarity.
    """

    has_columns: ClassVar[bool] = True  # type: ignore[misc]

    def observe(self, held: Received | None, reading: Reading) -> Received:
        """Choose this pass's raters and add their attention."""
        call, text = reading.call, reading.rows.select("text")
        images = reading.rows.select("images")
        if len(text) and len(images):
            looks = _mass_on(call, text, images, reading.new)
            text = text[looks >= looks.mean()]
        return AttentionReceived().add(held, reading, text)

    def keep(self, held: Received, order: Tensor) -> Received:
        """Columns follow their entries."""
        return AttentionReceived().keep(held, order)


def _mass_on(call: AttentionCall, rows: Tensor, columns: Tensor, new: int) -> Tensor:
    """(rows,) the attention that `rows` pay to `columns` of the `new` tokens, a mean over heads."""
    before = sum(segment.tokens for segment in call.segments) + call.key.shape[2] - new
    looks = torch.zeros(len(rows), device=rows.device)
    first = 0
    for weights in call.weights(rows):
        there = columns + before - first
        inside = there[(there >= 0) & (there < weights.shape[-1])]
        looks += weights[0][..., inside].sum(-1).mean((0, 1))
        first += weights.shape[-1]
    return looks


@dataclass(frozen=True)
class AnswerNumbers(Record):
    """Which of the distinct answers every demonstration gives, numbered in order of first
    appearance. State: (demonstrations,) int64, also for those not read yet."""

    def observe(self, held: Tensor | None, reading: Reading) -> Tensor:
        """Return the transcript's table, the same in every pass."""
        return reading.rows.answer_numbers
