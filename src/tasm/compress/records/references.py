"""Reference queries: rows of a reading kept whole, to judge by what their attention output loses.

Knows one attention call at a time; not which tokens will be kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from tasm.backbone.attention.kernels import exponentials, grouped_logits
from tasm.compress.records.record import BatchReading, Reading, Record
from tasm.compress.records.row_rules import Rows
from tasm.compress.records.together import asked_by


@dataclass(frozen=True, eq=False)
class Asked:
    """Rows that asked one layer.

    | field | shape | |
    |---|---|---|
    | `queries` | (kv_heads, group, rows, head_dim) | as they asked: after rotation |
    | `log_sum_exp` | (kv_heads, group, rows) | over everything they saw, nats |
    | `rest` | (kv_heads, group, rows) | attention that did not go to the memory |
    | `live` | (kv_heads, group, rows, head_dim) | Σ a·v over what is not the memory |
    | `before` | (rows,) | they see the transcript's tokens before this one |
    | `scale` | (rows,) | mean square of the residual stream where they stood |
    | `demonstration` | (rows,) | the demonstration they belong to |
    | `recorded` | (kv_heads, group, rows, head_dim) | Σ a·v over all they saw, or None |
    """

    queries: Tensor
    log_sum_exp: Tensor
    rest: Tensor
    live: Tensor
    before: Tensor
    scale: Tensor
    demonstration: Tensor
    scaling: float
    softcap: float | None = None
    recorded: Tensor | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.scale.shape[0])

    def weights(self, keys: Tensor, index: Tensor, some: slice = slice(None)) -> Tensor:
        """Return (kv_heads, group, rows, tokens) float32: what `some` rows pay to `keys` (kv_heads,
        tokens, head_dim), transcript tokens `index` (kv_heads, tokens) of the memory, as a part of
        all they pay; nothing where they could not see a token."""
        queries = self.queries[:, :, some]
        if queries.shape[2] == 0 or keys.shape[1] == 0:  # no reshape to a size that is not said
            return torch.zeros(*queries.shape[:3], keys.shape[1], device=keys.device)
        logits = grouped_logits(
            queries.flatten(0, 1)[None], keys[None].to(queries), None, self.scaling, self.softcap
        )[0]
        heads, group, rows, _ = queries.shape
        logits = logits.reshape(heads, group, rows, -1)
        unseen = index[:, None, None, :] >= self.before[some, None]
        logits.sub_(self.log_sum_exp[:, :, some, None])
        return exponentials(logits.masked_fill_(unseen, -torch.inf))

    def output(
        self, keys: Tensor, index: Tensor, values: Tensor, some: slice = slice(None)
    ) -> Tensor:
        """Return (kv_heads, group, rows, head_dim) float32: Σ a·v over the memory's `keys`,
        `index`, `values` (kv_heads, tokens, head_dim) and the rest, as recorded or computed."""
        if self.recorded is not None:
            return self.recorded[:, :, some].float()
        paid = self.weights(keys, index, some)
        return paid @ values.float()[:, None] + self.live[:, :, some].float()

    def head(self, number: int) -> "Asked":
        """Return what one KV head was asked."""
        return self.heads(slice(number, number + 1))

    def heads(self, some: slice) -> "Asked":
        """Return what these KV heads were asked."""
        return replace(
            self,
            queries=self.queries[some],
            log_sum_exp=self.log_sum_exp[some],
            rest=self.rest[some],
            live=self.live[some],
            recorded=None if self.recorded is None else self.recorded[some],
        )

    def joined(self, later: "Asked") -> "Asked":
        """Return the rows of both."""
        return replace(
            self,
            queries=torch.cat([self.queries, later.queries], 2),
            log_sum_exp=torch.cat([self.log_sum_exp, later.log_sum_exp], 2),
            rest=torch.cat([self.rest, later.rest], 2),
            live=torch.cat([self.live, later.live], 2),
            recorded=None
            if self.recorded is None or later.recorded is None
            else torch.cat([self.recorded, later.recorded], 2),
            before=torch.cat([self.before, later.before]),
            scale=torch.cat([self.scale, later.scale]),
            demonstration=torch.cat([self.demonstration, later.demonstration]),
        )

    def without(self, demonstrations: Sequence[int]) -> "Asked":
        """Return the rows that belong to others than these `demonstrations`."""
        left_out = torch.tensor(demonstrations, device=self.demonstration.device)
        return self.rows_at((~torch.isin(self.demonstration, left_out)).nonzero()[:, 0])

    def at_most(self, rows: int) -> "Asked":
        """Return about so many rows, at equal distances."""
        stride = max(1, -(-self.rows // rows))
        return self.rows_at(torch.arange(0, self.rows, stride, device=self.before.device))

    def rows_at(self, some: Tensor) -> "Asked":
        """Return the rows of these numbers."""
        return replace(
            self,
            queries=self.queries[:, :, some],
            log_sum_exp=self.log_sum_exp[:, :, some],
            rest=self.rest[:, :, some],
            live=self.live[:, :, some],
            recorded=None if self.recorded is None else self.recorded[:, :, some],
            before=self.before[some],
            scale=self.scale[some],
            demonstration=self.demonstration[some],
        )


@dataclass(frozen=True)
class References(Record):
    """About `at_most` rows at equal distances, with what they asked of other demonstrations and
    what the rest of their attention gave.

    In a replay everything read before is the memory and a row's own demonstration is the rest; in a
    first reading the memory is what stands before the row's own demonstration. `rows` says which
    rows there are to choose from, `last_rows` those of the model's last layer, whose output is read
    only where something is said, `outputs` whether rows are held with what attention gave: the rest
    of it, and in a replay all of it; without, `live` has no numbers. State: `Asked`.
    """

    rows: str = "all"
    last_rows: str = "predictions"
    at_most: int = 384
    outputs: bool = True

    starts_anew: ClassVar[bool] = True  # type: ignore[misc]
    needs_hidden: ClassVar[bool] = True  # type: ignore[misc]
    takes_batches: ClassVar[bool] = True  # type: ignore[misc]

    def observe(self, held: Asked | None, reading: Reading) -> Asked:
        """Append this pass's rows."""
        call, mine = reading.call, reading.rows.demonstration
        is_last = reading.is_last
        rows = reading.rows.once(
            (self, is_last), lambda rows: self._mask(rows, is_last).nonzero()[:, 0]
        )
        heads, group = call.key.shape[1], call.query.shape[1] // call.key.shape[1]
        values = call.value[0].float()
        earlier = values.shape[1] - reading.new  # live tokens of earlier passes, in a long chunk
        width = values.shape[-1] if self.outputs else 0
        live = torch.zeros(heads, group, len(rows), width, device=values.device)
        rest = torch.zeros(heads, group, len(rows), device=values.device)
        own = torch.zeros(len(rows), values.shape[1], dtype=torch.bool, device=values.device)
        own[:, earlier:] = mine[rows][:, None] == mine
        first = 0
        # As parts of all that a row pays, over what is not the memory only.
        for block in replace(call, segments=()).weights(rows) if len(rows) else ():
            columns = slice(first, first + block.shape[-1])
            kept = block[0] * own[:, columns]
            if self.outputs:
                live += kept @ values[:, None, columns]
            rest += kept.sum(-1)  # not 1 less the others: it may be 1e-6, and weighs `live`
            first = columns.stop
        starts = reading.rows.first_of_its_own
        hidden = reading.hidden
        assert hidden is not None
        asked = Asked(
            queries=call.query[0][:, rows].unflatten(0, (heads, group)).clone(),
            log_sum_exp=call.log_sum_exp[0][:, rows].unflatten(0, (heads, group)).float(),
            rest=rest,
            live=live.to(call.value.dtype),
            before=starts[rows] + reading.rows.first,
            scale=hidden[rows].float().pow(2).mean(-1),
            demonstration=mine[rows].long(),
            scaling=call.scaling,
            softcap=call.softcap,
            recorded=None
            # A first reading's curves need none.
            if call.output is None or not self.outputs or not reading.rows.chunk
            else call.output[0][:, rows].unflatten(0, (heads, group)).clone(),
        )
        return asked if held is None else held.joined(asked)

    def keep(self, held: Asked, order: Tensor) -> Asked:
        """The rows stay; what they saw was over other entries than those that stay."""
        return replace(held, recorded=None)

    def without(self, held: Asked, demonstrations: Sequence[int]) -> Asked:
        """Return the rows of other demonstrations."""
        return held.without(demonstrations)

    def observe_batch(self, held: Asked | None, reading: BatchReading) -> Asked:
        """Append the rows of several demonstrations, as if each had been read by itself."""
        call, together = reading.call, reading.together
        device, kv_heads = call.key.device, call.key.shape[1]
        is_last = reading.is_last
        chosen = together.chosen((self, is_last), lambda rows: self._mask(rows, is_last), device)
        mine = together.demonstration(device)
        asked = asked_by(call, chosen)
        whose = mine.gather(1, chosen.index)
        own = whose[:, :, None] == mine[:, None, :]
        values = call.value.float()
        batch, query_heads, most, _ = asked.query.shape
        group = query_heads // kv_heads
        width = values.shape[-1] if self.outputs else 0
        live = torch.zeros(batch, kv_heads, group, most, width, device=device)
        rest = torch.zeros(batch, kv_heads, group, most, device=device)
        first, numbers = 0, torch.arange(most, device=device)
        for block in replace(asked, segments=()).weights(numbers) if most else ():
            columns = slice(first, first + block.shape[-1])
            kept = block * own[:, None, None, :, columns]
            if self.outputs:
                live += (kept.flatten(2, 3) @ values[:, :, columns]).view_as(live)
            rest += kept.sum(-1)
            first = columns.stop
        starts = together.starts(device)
        hidden = reading.hidden
        assert hidden is not None
        inside = hidden.gather(1, chosen.index[..., None].expand(-1, -1, hidden.shape[2]))

        def rows_of(found: Tensor) -> Tensor:
            """(batch, kv_heads, group, most, …) to (kv_heads, group, rows, …)."""
            return found.movedim(0, 2).flatten(2, 3)[:, :, chosen.flat]

        found = Asked(
            queries=rows_of(asked.query.unflatten(1, (kv_heads, group))),
            log_sum_exp=rows_of(asked.log_sum_exp.unflatten(1, (kv_heads, group)).float()),
            rest=rows_of(rest),
            live=rows_of(live).to(call.value.dtype),
            before=starts.gather(1, chosen.index).flatten()[chosen.flat],
            scale=inside.float().pow(2).mean(-1).flatten()[chosen.flat],
            demonstration=whose.flatten()[chosen.flat],
            scaling=call.scaling,
            softcap=call.softcap,
            recorded=None
            if asked.output is None or not self.outputs
            else rows_of(asked.output.unflatten(1, (kv_heads, group))),
        )
        return found if held is None else held.joined(found)

    def _mask(self, rows: Rows, is_last: bool) -> Tensor:
        """(n,) bool: the rows that there are to choose from, at equal distances."""
        total = rows.chunk or rows.stage_end
        stride = 1 if is_last else max(1, -(-total // self.at_most))
        numbers = torch.arange(len(rows), device=rows.demonstration.device)
        here = rows.mask(self.last_rows if is_last else self.rows) & (rows.demonstration >= 0)
        return here & ((numbers + rows.demonstration) % stride == 0)
