"""What attention read of every demonstration when it made an answer's first token.

It reads what the attention of each layer hands to a recorder; it knows neither how tokens were
chosen nor what an answer says.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasm.answer.explaining.support import written_by

if TYPE_CHECKING:
    from tasm.backbone.attention.attention_call import AttentionCall
    from tasm.backbone.attention.cache import MemoryCache
    from tasm.backbone.attention.segment import Segment

_BLOCK = 1 << 22
"""Numbers held at once: weighted values of some tokens, for every query head."""


class Reading:
    """Adds up, per demonstration, what the query that makes the first answer token takes from it.

    A token counts with its attention weight (`mass`), and with the weight times the length of its
    value vector (`weighted`; Kobayashi et al., EMNLP 2020): a token that is much attended to but
    says nothing, an attention sink, then counts little. Core and retrieved tokens count apart; a
    merged token counts for its sink's demonstration. Sums go over layers and heads.

    Attributes:
        mass, weighted: (2, rows, demonstrations): the core's, and what was retrieved.
        layers: (layers, rows, demonstrations), `weighted` by layer.
        tokens: (2, rows, transcript tokens), `weighted` by token.
        written: (rows, demonstrations, hidden), what attention adds to the residual stream for each
            demonstration; None for a model whose output projections are not found.

    ```python
    reading = Reading.of(cache, memory.tokens.demonstration, rows=1)
    model.hf.generate(**inputs, past_key_values=cache)
    reading.mass.sum(0)
    ```
    """

    def __init__(self, demonstration: Tensor, rows: int, layers: int) -> None:
        self._owners = demonstration.long().cpu()
        count = int(self._owners.max()) + 1 if len(self._owners) else 0
        self.mass = torch.zeros(2, rows, count)
        self.weighted = torch.zeros(2, rows, count)
        self.layers = torch.zeros(layers, rows, count)
        self.tokens = torch.zeros(2, rows, len(self._owners))
        self.written: Tensor | None = None
        self._is_written = True
        self._count = count
        self._seen: set[int] = set()
        self._cache: MemoryCache | None = None

    @classmethod
    def of(cls, cache: "MemoryCache", demonstration: Tensor, rows: int) -> "Reading":
        """Record the first call of every layer of a fresh cache; later steps run unrecorded."""
        reading = cls(demonstration, rows, len(cache.layers))
        reading._cache, cache.recorder = cache, reading
        return reading

    def __deepcopy__(self, memo: Any) -> "Reading":
        return self  # the copy of a cache that was read has nothing new to record

    def __call__(self, call: "AttentionCall") -> None:
        """Take one layer's attention; its first call only, which is the reading of the query."""
        if call.layer in self._seen:
            if self._cache is not None:
                self._cache.recorder = None
            return
        self._seen.add(call.layer)
        if not call.segments or not self._count:
            return
        last = torch.tensor([call.query.shape[2] - 1], device=call.query.device)
        attention = torch.cat([block[:, :, :, 0] for block in call.weights(last)], -1)
        rows, kv_heads, group, _ = attention.shape
        added = call.value.new_zeros(
            rows, kv_heads, group, self._count, call.value.shape[3], dtype=torch.float32
        )
        start = 0
        for segment in call.segments:
            some = attention[..., start : start + segment.tokens]
            start += segment.tokens
            if segment.index is not None:
                for row in range(rows):
                    added[row] += self._add(call.layer, row, segment, some[row])
        if self._is_written:
            written = written_by(call.module, added)
            self._is_written = written is not None
            before = self.written
            self.written = written if before is None or written is None else before + written

    def _add(self, layer: int, row: int, segment: "Segment", attention: Tensor) -> Tensor:
        """Count one row's attention (kv_heads, group, tokens); returns what the values of each
        demonstration came to, (kv_heads, group, demonstrations, head_dim)."""
        assert segment.index is not None
        retrieved = segment.index.ndim == 3  # each row its own: what it brought from the bank
        index = segment.index[row] if retrieved else segment.index
        kv_heads, group, tokens = attention.shape
        index = index.long().clamp_min(0).expand(kv_heads, -1)
        owner = self._owners.to(index.device)[index]
        owner = torch.where(owner < 0, self._count, owner)  # the last one is nobody
        heads = torch.arange(kv_heads, device=index.device)[:, None]
        target = owner + heads * (self._count + 1)
        shared = segment.values.shape[0] == 1
        values = segment.values[0 if shared else row]
        width = values.shape[2]
        lengths = values.float().norm(dim=-1)
        # Values, attention and weighted attention are summed side by side.
        found = attention.new_zeros(kv_heads * (self._count + 1), group, width + 2)
        step = max(1, _BLOCK // (kv_heads * group * (width + 2)))
        for first in range(0, tokens, step):
            some = slice(first, first + step)
            shares = attention[:, :, some].transpose(1, 2)
            beside = torch.stack([torch.ones_like(lengths[:, some]), lengths[:, some]], -1)
            vectors = torch.cat([values[:, some].float(), beside], -1)
            product = shares[..., None] * vectors[:, :, None]
            found.index_add_(0, target[:, some].flatten(), product.flatten(0, 1))
        found = found.view(kv_heads, self._count + 1, group, width + 2)[:, : self._count]
        mass, weighted = found[..., width:].sum((0, 2)).cpu().unbind(-1)
        part = int(retrieved)
        self.mass[part, row] += mass
        self.weighted[part, row] += weighted
        self.layers[layer, row] += weighted
        of_somebody = owner < self._count
        by_token = (attention.sum(1) * lengths * of_somebody).flatten().cpu()
        self.tokens[part, row].index_add_(0, index.flatten().cpu(), by_token)
        return found[..., :width].transpose(1, 2)
