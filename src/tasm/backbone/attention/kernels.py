"""Partial softmax attention over one run of keys, and the exact merge of several by log-sum-exp.

Knows tensors only: no segments, no caches, no models. With logits z_i over run i, its output o_i
and l_i = log sum exp z_i, attention over all runs is sum_i exp(l_i - l) o_i, where
l = log sum_i exp l_i.
"""

import torch
from torch import Tensor

_BLOCK = 1 << 22
"""Logits held at once by the written-out path, in elements."""

_PACKED_ROWS = 16
"""Up to so many tokens the query heads of a group become rows of one product with their KV head."""


def partial_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the softmax attention over one run of keys, and its log-sum-exp in nats.

    ```python
    output, log_sum_exp = partial_attention(query, key, value, None, head_dim ** -0.5)
    ```

    Shapes: query (batch, query_heads, rows, head_dim); key, value (1 or batch, kv_heads, tokens,
    head_dim); bias float32 (1 or batch, 1 or kv_heads, 1 or rows, tokens). Returns (batch,
    query_heads, rows, head_dim) in the query's dtype and (batch, query_heads, rows) in float32.
    `causal` needs as many tokens as rows. Keys of batch 1 serve every row without being expanded.
    """
    if softcap is not None or query.device.type != "cpu" or key.shape[-1] != value.shape[-1]:
        return written_out_attention(query, key, value, bias, scaling, softcap, causal)
    batch, query_heads, rows, _ = query.shape
    shared = key.shape[0] == 1
    rowwise = bias is not None and (bias.shape[2] > 1 or bias.shape[0] > 1)
    if (
        shared
        and not causal
        and (not rowwise or batch == 1)
        and (batch > 1 or rows <= _PACKED_ROWS)
    ):
        return _over_shared_keys(query, key, value, bias, scaling)
    if batch > 1 and shared:
        key, value = key.expand(batch, -1, -1, -1), value.expand(batch, -1, -1, -1)
    if rows == 1:
        packed = query.reshape(batch, key.shape[1], -1, query.shape[3])
        output, log_sum_exp = _flash(packed, key, value, bias, scaling, False)
        return output.reshape(batch, query_heads, 1, -1), log_sum_exp.reshape(batch, query_heads, 1)
    if bias is not None and bias.shape[1] > 1:
        bias = bias.repeat_interleave(query_heads // key.shape[1], 1)
    return _flash(query, key, value, bias, scaling, causal)


def _over_shared_keys(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float
) -> tuple[Tensor, Tensor]:
    """Batch, group and tokens all become rows: the keys are read once for the whole batch."""
    batch, query_heads, rows, head_dim = query.shape
    kv_heads = key.shape[1]
    group = query_heads // kv_heads
    packed = query.reshape(batch, kv_heads, -1, head_dim).transpose(0, 1)
    packed = packed.reshape(1, kv_heads, -1, head_dim)
    if bias is not None and bias.shape[2] > 1:
        bias = bias.repeat(1, 1, group, 1)
    output, log_sum_exp = _flash(packed, key, value, bias, scaling, False)
    output = output.view(kv_heads, batch, group, rows, -1).transpose(0, 1).flatten(1, 2)
    return output, log_sum_exp.reshape(kv_heads, batch, group, rows).transpose(0, 1).flatten(1, 2)


def _flash(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float, causal: bool
) -> tuple[Tensor, Tensor]:
    # A private operator, but the only one on a CPU that also returns the log-sum-exp. It takes
    # broadcast views and a float32 mask with any dtype of the query.
    group = query.shape[1] // key.shape[1]
    if group > 1 and not _TAKES_GROUPED_HEADS:
        key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    output, log_sum_exp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, attn_mask=bias, scale=scaling
    )
    return output, log_sum_exp


def _takes_grouped_heads() -> bool:
    """Whether the kernel shares a KV head among query heads; older ones would read on instead."""
    query = torch.ones(1, 2, 1, 8)
    stored = torch.arange(32.0).reshape(1, 2, 2, 8)  # reading on stays inside this tensor
    output = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, stored[:, :1], stored[:, :1], 0.0, False
    )[0]
    return torch.equal(output[:, 0], output[:, 1])


_TAKES_GROUPED_HEADS = _takes_grouped_heads()


def written_out_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """The same as `partial_attention` in plain operations: any device, any dtype, soft capping."""
    batch, query_heads, rows, _ = query.shape
    tokens = key.shape[2]
    step = max(1, _BLOCK // max(1, batch * query_heads * tokens))
    outputs, sums = [], []
    for first in range(0, rows, step):
        block = query[:, :, first : first + step]
        mask = bias if bias is None or bias.shape[2] == 1 else bias[:, :, first : first + step]
        if causal:
            here = torch.arange(first, first + block.shape[2], device=query.device)[:, None]
            later = torch.arange(tokens, device=query.device) > here
            hidden = torch.where(later, torch.finfo(torch.float32).min, 0.0)[None, None]
            mask = hidden if mask is None else mask + hidden
        logits = grouped_logits(block, key, mask, scaling, softcap)
        log_sum_exp = logits.logsumexp(-1)
        weights = (logits - log_sum_exp[..., None]).exp().to(value.dtype)
        mixed = (weights.flatten(2, 3) @ value).view(batch, query_heads, block.shape[2], -1)
        outputs.append(mixed)
        sums.append(log_sum_exp.flatten(1, 2))
    return (
        (outputs[0], sums[0]) if len(outputs) == 1 else (torch.cat(outputs, 2), torch.cat(sums, 2))
    )


def grouped_logits(
    query: Tensor, key: Tensor, bias: Tensor | None, scaling: float, softcap: float | None
) -> Tensor:
    """Return float32 logits (batch, kv_heads, group, rows, tokens): scaled, soft-capped, biased.

    Shapes are those of `partial_attention`.
    """
    batch, query_heads, rows, head_dim = query.shape
    kv_heads = key.shape[1]
    packed = query.reshape(batch, kv_heads, -1, head_dim)
    logits = (packed @ key.transpose(2, 3)).float() * scaling
    logits = logits.reshape(batch, kv_heads, query_heads // kv_heads, rows, -1)
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    return logits if bias is None else logits + bias.unsqueeze(2)


def merge(parts: list[tuple[Tensor, Tensor]], sink: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Merge partial attentions exactly; `sink` is one more logit per row that carries no value.

    Shapes: each part (…, rows, head_dim) and (…, rows); sink broadcasts to (…, rows). Returns the
    merged output in the parts' dtype and the log-sum-exp over everything, the sink included.
    """
    output, total = parts[0]
    if len(parts) == 1 and sink is None:
        return output, total
    for _, log_sum_exp in parts[1:]:
        total = torch.logaddexp(total, log_sum_exp)
    if sink is not None:
        total = torch.logaddexp(total, sink)
    merged = output * (parts[0][1] - total).exp()[..., None]
    for partial, log_sum_exp in parts[1:]:
        merged = merged + partial * (log_sum_exp - total).exp()[..., None]
    return merged.to(output.dtype), total
