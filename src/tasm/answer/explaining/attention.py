"""What attention read of every demonstration when it made an answer's first token.

It reads what the attention of each layer hands to a recorder; it knows neither how tokens were
chosen nor what an answer says.
"""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from tasm.answer.explaining.support import written_by
from tasm.backbone.attention.attention_call import AttentionCall, segment_bias
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.kernels import grouped_logits
from tasm.backbone.attention.segment import Segment

_BLOCK = 1 << 22
"""Numbers held at once: weighted values of some tokens, for every query head."""


class Reading:
    """Adds up, per demonstration, what the query that makes the first answer token takes from it.

    It records the first call of every layer of a fresh cache; later steps run unrecorded.

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
    reading = Reading(cache, memory.tokens.demonstration, rows=1)
    model.hf.generate(**inputs, past_key_values=cache)
    reading.mass.sum(0)
    ```
    """

    def __init__(self, cache: MemoryCache, demonstration: Tensor, rows: int) -> None:
        self._demonstration = demonstration
        self._count = int(demonstration.max()) + 1 if len(demonstration) else 0
        self._figures = torch.zeros(2, 2, len(cache.layers), rows, self._count)
        self.tokens = torch.zeros(2, rows, len(demonstration))
        self.written: Tensor | None = None
        self._is_written = True
        self._seen: set[int] = set()
        self._cache, cache.recorder = cache, self

    @property
    def mass(self) -> Tensor:
        """(2, rows, demonstrations) of attention."""
        return self._figures[0].sum(1)

    @property
    def weighted(self) -> Tensor:
        """(2, rows, demonstrations) of attention times the length of what it read."""
        return self._figures[1].sum(1)

    @property
    def layers(self) -> Tensor:
        """(layers, rows, demonstrations), `weighted` by layer."""
        return self._figures[1].sum(0)

    def __deepcopy__(self, memo: Any) -> "Reading":
        return self  # the copy of a cache that was read has nothing new to record

    def __call__(self, call: AttentionCall) -> None:
        """Take one layer's attention; its first call only, which is the reading of the query."""
        if call.layer in self._seen:
            self._cache.recorder = None
            return
        self._seen.add(call.layer)
        if not call.segments or not self._count:
            return
        rows = range(call.query.shape[0])
        added: Tensor | None = None
        for segment in call.segments:
            if segment.index is not None:
                attention = self._attention(call, segment)
                each = [self._add(call.layer, row, segment, attention[row]) for row in rows]
                here = torch.stack(each)
                added = here if added is None else added + here
        if added is None:
            return
        if self._is_written:
            written = written_by(call.module, added)
            self._is_written = written is not None
            before = self.written
            self.written = written if before is None or written is None else before + written

    def _attention(self, call: AttentionCall, segment: Segment) -> Tensor:
        """(rows, kv_heads, group, tokens of the segment) of the last query."""
        index = None if call.index is None else call.index[:, -1:]
        bias = segment_bias(segment, index, call.sliding_window)
        logits = grouped_logits(
            call.query[:, :, -1:], segment.keys, bias, call.scaling, call.softcap
        )[:, :, :, 0]
        total = call.log_sum_exp[:, :, -1].view(*logits.shape[:3], 1)
        return (logits - total).exp_()

    def _add(self, layer: int, row: int, segment: Segment, attention: Tensor) -> Tensor:
        """Count one row's attention (kv_heads, group, tokens); returns what the values of each
        demonstration came to, (kv_heads, group, demonstrations, head_dim)."""
        owned = self._owned(row, segment, attention.shape[0])
        kv_heads, group, tokens = attention.shape
        values = segment.values[min(row, segment.values.shape[0] - 1)]
        width, bins = values.shape[2], kv_heads * (self._count + 1)
        summed = attention.sum(1)
        both = torch.stack([summed, summed * owned.lengths], -1).flatten(0, 1)
        figures = both.new_zeros(bins, 2).index_add_(0, owned.target, both)
        figures = figures.view(kv_heads, -1, 2)[:, : self._count].sum(0).cpu()
        part = int(owned.is_retrieved)
        self._figures[:, part, layer, row] += figures.T
        by_token = (both[:, 1] * owned.is_somebodys).cpu()
        self.tokens[part, row].index_add_(0, owned.places, by_token)
        found = attention.new_zeros(bins, group, width)
        target = owned.target.view(kv_heads, tokens)
        step = max(1, _BLOCK // (kv_heads * group * width))
        for first in range(0, tokens, step):
            some = slice(first, first + step)
            shares = attention[:, :, some].transpose(1, 2)
            product = shares[..., None] * values[:, some, None].float()
            found.index_add_(0, target[:, some].flatten(), product.flatten(0, 1))
        return found.view(kv_heads, -1, group, width)[:, : self._count].transpose(1, 2)

    def _owned(self, row: int, segment: Segment, kv_heads: int) -> "_Owned":
        """Whose the tokens are; of a segment that all rows share it is found once for all caches
        over one memory."""
        assert segment.index is not None
        is_retrieved = segment.index.ndim == 3  # each row its own: what it brought from the bank
        known = None if is_retrieved else _OWNED.get(segment)
        if known is not None and known.demonstration is self._demonstration:
            return known
        index = segment.index[row] if is_retrieved else segment.index
        index = index.long().clamp_min(0).expand(kv_heads, -1)
        owner = self._demonstration.to(index.device).long()[index]
        heads = torch.arange(kv_heads, device=index.device)[:, None]
        # Nobody's tokens go to the last bin of their head.
        target = torch.where(owner < 0, self._count, owner) + heads * (self._count + 1)
        lengths = segment.values[min(row, segment.values.shape[0] - 1)].float().norm(dim=-1)
        found = _Owned(
            self._demonstration,
            is_retrieved,
            index.flatten().cpu(),
            target.flatten(),
            (owner >= 0).flatten(),
            lengths,
        )
        if not is_retrieved:
            _OWNED[segment] = found
        return found


@dataclass(frozen=True, eq=False)
class _Owned:
    """Whose the tokens of a segment are, all heads behind each other: their `places` in the
    transcript, the `target` bin of each, (kv_heads * (demonstrations + 1)) of them, whether it is
    somebody's; and `lengths` (kv_heads, tokens) of the values."""

    demonstration: Tensor
    is_retrieved: bool
    places: Tensor
    target: Tensor
    is_somebodys: Tensor
    lengths: Tensor


_OWNED: WeakKeyDictionary[Segment, _Owned] = WeakKeyDictionary()
