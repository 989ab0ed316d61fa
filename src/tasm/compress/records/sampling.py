"""How much a layer's attention output would suffer if tokens were dropped at random. A record.

Knows one attention call at a time; not which tokens a scorer would keep.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.backbone.attention.kernels import numbers_at_once
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
        held_values = [*(segment.values[0] for segment in call.segments), call.value[0]]
        kv_heads, tokens = call.value.shape[1], sum(one.shape[1] for one in held_values)
        group, device = query_heads // kv_heads, call.value.device
        products = torch.zeros(kv_heads, group, head_dim, head_dim, device=device)
        # Σ over rows of a_j², by token: what is summed over rows first is multiplied once.
        columns = torch.zeros(kv_heads, group, tokens, device=device)
        block = numbers_at_once(kv_heads * tokens * head_dim // 2, _LEAST, _MOST, device)
        for some in rows.split(max(1, block // max(1, tokens * query_heads))):
            blocks = [weights[0] for weights in call.weights(some)]  # (…, group, rows, tokens)
            output = torch.zeros(kv_heads, group, len(some), head_dim, device=device)
            for weights, values in zip(blocks, _beside(held_values, blocks), strict=True):
                output += weights @ values.float()[:, None]
            mine = reading.rows.demonstration
            own = torch.zeros(len(some), tokens, dtype=torch.bool, device=device)
            own[:, tokens - reading.new :] = mine[some][:, None] == mine
            seen = torch.zeros_like(output)
            total = torch.zeros_like(output[..., :1])
            first = 0
            for weights, values in zip(blocks, _beside(held_values, blocks), strict=True):
                stop = first + weights.shape[-1]
                squares = weights.pow_(2).masked_fill_(own[:, first:stop], 0)
                columns[..., first:stop] += squares.sum(2)
                seen += squares @ values.float()[:, None]
                total += squares.sum(-1, keepdim=True)
                first = stop
            cross = seen.transpose(2, 3) @ output
            products += (output * total).transpose(2, 3) @ output
            products -= cross + cross.transpose(2, 3)
        first = 0
        for run in held_values:  # never more than one block's values at once
            for values in run.split(max(1, block // (kv_heads * head_dim)), 1):
                stop, full = first + values.shape[1], values.float()
                some = max(1, block // max(1, full.numel()))  # query heads of a KV head at once
                for sums, weights in zip(
                    products.split(some, 1), columns[..., first:stop].split(some, 1), strict=True
                ):
                    weighted = full[:, :, None] * weights.transpose(1, 2)[..., None]
                    sums += (weighted.flatten(2).transpose(1, 2) @ full).view_as(sums)
                first = stop
        found = Spread(products.flatten(0, 1), len(rows))
        if held is None:
            return found
        return Spread(held.products + found.products, held.rows + found.rows)


def _beside(runs: Sequence[Tensor], blocks: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the values (kv_heads, tokens, head_dim) of every block; none reaches into two runs."""
    run, first = 0, 0
    for block in blocks:
        while first == runs[run].shape[1]:
            run, first = run + 1, 0
        stop = first + block.shape[-1]
        yield runs[run][:, first:stop]
        first = stop


_LEAST, _MOST = 1 << 18, 1 << 22
