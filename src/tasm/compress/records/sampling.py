"""How much a layer's attention output would suffer if tokens were dropped at random. A record.

Knows one attention call at a time; not which tokens a scorer would keep.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.compress.records.record import Reading, Record


@dataclass(frozen=True, eq=False)
class Spread:
    """`products` (query_heads, head_dim, head_dim): Σ_j a_j²(v_j − o)(v_j − o)ᵀ, summed over rows;
    `rows` how many there were."""

    products: Tensor
    rows: int

    @property
    def mean(self) -> Tensor:
        """(query_heads, head_dim, head_dim) per row."""
        return self.products / max(1, self.rows)


@dataclass(frozen=True)
class SamplingSpread(Record):
    """Σ_j a_j²(v_j − o)(v_j − o)ᵀ over the tokens j of other demonstrations, for the chosen rows.

    a are a row's attention weights and o its attention output. Attention spread over many tokens,
    or over tokens of one value, gives little; attention on single tokens gives much, whichever
    they are. `last_rows` are the rows of the model's last layer, None for the same. State:
    `Spread`.
    """

    rows: str = "all"
    last_rows: str | None = None

    def observe(self, held: Spread | None, reading: Reading) -> Spread:
        """Add this pass's rows."""
        rule = self.last_rows if reading.is_last and self.last_rows else self.rows
        call, rows = reading.call, reading.rows.select(rule)
        query_heads, head_dim = call.query.shape[1], call.query.shape[3]
        if len(rows) == 0:  # a small chunk may hold none of the rows wanted
            none = torch.zeros(query_heads, head_dim, head_dim, device=call.query.device)
            return Spread(none, 0) if held is None else held
        values = torch.cat([*(s.values[0] for s in call.segments), call.value[0]], 1).float()
        kv_heads, tokens = values.shape[:2]
        group = query_heads // kv_heads
        products = torch.zeros(kv_heads, group, head_dim, head_dim, device=values.device)
        for some in rows.split(max(1, _BLOCK // max(1, tokens * query_heads))):
            weights = torch.cat(list(call.weights(some)), -1)[0]  # (kv_heads, group, rows, tokens)
            output = weights @ values[:, None]
            mine = reading.rows.demonstration
            own = torch.zeros(len(some), tokens, dtype=torch.bool, device=values.device)
            own[:, tokens - reading.new :] = mine[some][:, None] == mine
            squares = weights.pow(2).masked_fill_(own, 0)
            columns = squares.sum(2)  # (kv_heads, group, tokens)
            cross = (squares @ values[:, None]).transpose(2, 3) @ output
            for member in range(group):  # never more than one layer's values at once
                weighted = (values * columns[:, member, :, None]).transpose(1, 2)
                products[:, member] += weighted @ values
            products += (output * squares.sum(-1, keepdim=True)).transpose(2, 3) @ output
            products -= cross + cross.transpose(2, 3)
        found = Spread(products.flatten(0, 1), len(rows))
        if held is None:
            return found
        return Spread(held.products + found.products, held.rows + found.rows)


_BLOCK = 1 << 22
