"""What an attention call hands to a cache's recorder, and the attention mass computed from it.

Knows tensors and segments. No attention matrix over the whole context is ever held: mass is summed
block by block from the log-sum-exp that the pass has computed anyway.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasm.backbone.attention.kernels import exponentials, grouped_logits, numbers_at_once
from tasm.backbone.attention.segment import Segment

_LEAST, _MOST = 1 << 18, 1 << 22


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One layer's attention in one forward pass.

    ```python
    def recorder(call: AttentionCall) -> None:
        received[call.layer] = call.column_sums(answer_rows)

    cache.recorder = recorder
    ```

    Shapes: query (batch, query_heads, n, head_dim), rotated; key, value (batch, kv_heads, live,
    head_dim), of which the last n belong to the queries unless the cache is static; segments in
    order of reading (`extra`'s last); mask None (causal, or a single query) or float32 added to
    the live logits, (batch, 1, n, live); log_sum_exp (batch, query_heads, n) in nats over
    everything seen, an attention sink included; index None or (batch, n), the queries' logical
    sequence index; output (batch, query_heads, n, head_dim), what the call returns, or None.
    """

    layer: int
    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    segments: tuple[Segment, ...]
    mask: Tensor | None
    log_sum_exp: Tensor
    scaling: float
    softcap: float | None
    index: Tensor | None
    sliding_window: int | None
    output: Tensor | None = None

    def column_sums(self, rows: Tensor) -> Tensor:
        """Return the attention that every token seen receives from some of the call's queries.

        `rows` holds query numbers, 0 … n-1. Returns float32 (batch, kv_heads, tokens): segments
        first, then live tokens; summed over `rows`, averaged over the query heads of a KV head.
        """
        return torch.cat([weights.mean(2).sum(2) for weights in self.weights(rows)], -1)

    def weights(self, rows: Tensor) -> Iterator[Tensor]:
        """Yield attention weights of the queries in `rows` over blocks of tokens, segments first.

        Each is float32 (batch, kv_heads, group, rows, tokens of the block); blocks are in order.
        """
        return map(exponentials, self.log_weights(rows))

    def log_weights(self, rows: Tensor) -> Iterator[Tensor]:
        """Yield the logarithms of the same weights: what is compared need not be exponentiated."""
        query, log_sum_exp = self.query[:, :, rows], self.log_sum_exp[:, :, rows]
        batch, query_heads, count = log_sum_exp.shape
        kv_heads = self.key.shape[1]
        total = log_sum_exp.reshape(batch, kv_heads, query_heads // kv_heads, count, 1)
        step = max(1, self._block // max(1, log_sum_exp.numel()))
        for key, bias in self._runs(rows):
            for first in range(0, key.shape[2], step):
                some = None if bias is None else bias[..., first : first + step]
                logits = grouped_logits(
                    query, key[:, :, first : first + step], some, self.scaling, self.softcap
                )
                yield logits.sub_(total)

    @property
    def _block(self) -> int:
        """Numbers held at once: a quarter of the layer's keys."""
        seen = self.key[0].numel() + sum(segment.keys[0].numel() for segment in self.segments)
        return numbers_at_once(seen // 4, _LEAST, _MOST, self.key.device)

    @property
    def rows_at_once(self) -> int:
        """How many rows make blocks of `weights` as wide as they are high, for each KV head."""
        batch, query_heads, _ = self.log_sum_exp.shape
        kv_heads = self.key.shape[1]
        side = math.isqrt(self._block // kv_heads)
        return max(1, side * kv_heads // (batch * query_heads))

    def _runs(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Keys and bias of every run: bias (…, 1 or rows, tokens)."""
        index = None if self.index is None else self.index[:, rows]
        for segment in self.segments:
            yield segment.keys, segment_bias(segment, index, self.sliding_window)
        if self.mask is not None:
            yield self.key, self.mask[:, :, rows]
        elif self.query.shape[2] == 1:
            yield self.key, None
        else:
            later = torch.arange(self.key.shape[2], device=rows.device) > rows[:, None]
            yield self.key, torch.where(later, torch.finfo(torch.float32).min, 0.0)[None, None]


def segment_bias(
    segment: Segment, index: Tensor | None, sliding_window: int | None
) -> Tensor | None:
    """Return what is added to a segment's logits: its bias and, in a sliding layer, the window's.

    `index` is (batch, n), the queries' logical index. Returns None or float32 (1 or batch, 1 or
    kv_heads, 1 or n, tokens). A token is seen when query index - its index < window.
    """
    bias = None if segment.bias is None else segment.bias.unsqueeze(2)
    if not sliding_window or segment.index is None or index is None:
        return bias
    places = segment.index if segment.index.ndim == 3 else segment.index[None]
    # Kept where the decoder begins; its later layers may lie on another device.
    distance = index.to(places.device)[:, None, :, None] - places[:, :, None, :]
    window = torch.where(distance < sliding_window, 0.0, torch.finfo(torch.float32).min)
    return (
        window if bias is None else torch.clamp_min(bias + window, torch.finfo(torch.float32).min)
    )
