"""Reference queries: rows of a reading kept whole, to judge by what their attention output loses.

Knows one attention call at a time; not which tokens will be kept.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from tasm.backbone.attention.kernels import grouped_logits
from tasm.compress.records.received import Reading, Record


@dataclass(frozen=True, eq=False)
class Asked:
    """Rows that asked one layer.

    | field | shape | |
    |---|---|---|
    | `queries` | (kv_heads, group, rows, head_dim) | as they asked: after rotation |
    | `log_sum_exp` | (kv_heads, group, rows) | over everything they saw, nats |
    | `rest` | (kv_heads, group, rows) | attention that did not go to the memory |
    | `live` | (kv_heads, group, rows, head_dim) | Σ a·v over what is not the memory |
    | `scale` | (rows,) | mean square of the residual stream where they stood |
    """

    queries: Tensor
    log_sum_exp: Tensor
    rest: Tensor
    live: Tensor
    scale: Tensor
    scaling: float
    softcap: float | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.scale.shape[0])

    def weights(self, keys: Tensor, some: slice = slice(None)) -> Tensor:
        """Return (kv_heads, group, rows, tokens) float32: what `some` rows pay to `keys`
        (kv_heads, tokens, head_dim) of the memory, as a part of all they pay."""
        queries = self.queries[:, :, some]
        logits = grouped_logits(
            queries.flatten(0, 1)[None], keys[None].to(queries), None, self.scaling, self.softcap
        )[0]
        return (logits.float() - self.log_sum_exp[:, :, some, None]).exp_()

    def joined(self, later: "Asked") -> "Asked":
        """Return the rows of both."""
        return replace(
            self,
            queries=torch.cat([self.queries, later.queries], 2),
            log_sum_exp=torch.cat([self.log_sum_exp, later.log_sum_exp], 2),
            rest=torch.cat([self.rest, later.rest], 2),
            live=torch.cat([self.live, later.live], 2),
            scale=torch.cat([self.scale, later.scale]),
        )


@dataclass(frozen=True)
class References(Record):
    """About `at_most` rows at equal distances among the demonstrations of a replay, with what they
    asked of the memory and what the rest of their attention gave.

    `rows` says which rows there are to choose from, `last_rows` those of the model's last layer,
    whose output is read only where something is said. State: `Asked`.
    """

    rows: str = "all"
    last_rows: str = "predictions"
    at_most: int = 384

    needs_hidden: ClassVar[bool] = True  # type: ignore[misc]

    def observe(self, held: Asked | None, reading: Reading) -> Asked:
        """Append this pass's rows."""
        call = reading.call
        rows = self._rows(reading)
        before = sum(segment.tokens for segment in call.segments)
        heads, group = call.key.shape[1], call.query.shape[1] // call.key.shape[1]
        values = call.value[0].float()
        live = torch.zeros(heads, group, len(rows), values.shape[-1], device=values.device)
        remembered = torch.zeros(heads, group, len(rows), device=values.device)
        first = 0
        for block in call.weights(rows):
            weights = block[0]
            memory = max(0, min(weights.shape[-1], before - first))
            remembered += weights[..., :memory].sum(-1)
            if memory < weights.shape[-1]:
                start = first + memory - before
                stop = start + weights.shape[-1] - memory
                live += weights[..., memory:] @ values[:, None, start:stop]
            first += weights.shape[-1]
        hidden = reading.hidden
        assert hidden is not None
        asked = Asked(
            queries=call.query[0][:, rows].unflatten(0, (heads, group)).clone(),
            log_sum_exp=call.log_sum_exp[0][:, rows].unflatten(0, (heads, group)).float(),
            rest=(1 - remembered).clamp(min=0),
            live=live,
            scale=hidden[rows].float().pow(2).mean(-1),
            scaling=call.scaling,
            softcap=call.softcap,
        )
        return asked if held is None else held.joined(asked)

    def _rows(self, reading: Reading) -> Tensor:
        is_last = reading.is_last
        rows = reading.rows.select(self.last_rows if is_last else self.rows)
        stride = 1 if is_last else max(1, -(-reading.rows.chunk // self.at_most))
        shift = int(reading.rows.demonstration.max()) if len(reading.rows) else 0
        return rows[(rows + shift) % stride == 0]
