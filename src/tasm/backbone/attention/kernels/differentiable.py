"""Attention whose output and log-sum-exp both have gradients, of queries, keys, values and bias.

The fused kernels give none of the log-sum-exp, by which runs are merged.
"""

import torch
from torch import Tensor


def differentiable_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """The same as `partial_attention`, in operations that autograd knows; nothing is written in
    place, and all logits are held."""
    batch, query_heads, rows, _ = query.shape
    kv_heads, tokens = key.shape[1:3]
    group = query_heads // kv_heads
    packed = query.float().reshape(batch, kv_heads, group * rows, -1)
    logits = _product(packed, key.float().transpose(2, 3)) * scaling
    logits = logits.unflatten(2, (group, rows))
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    if causal:
        later = torch.ones(rows, tokens, dtype=torch.bool, device=query.device).triu(1)
        logits = logits.masked_fill(later, torch.finfo(torch.float32).min)
    if bias is not None:
        logits = logits + bias.unsqueeze(2)
    log_sum_exp = logits.logsumexp(-1)
    weights = (logits - log_sum_exp[..., None]).exp()
    mixed = _product(weights.flatten(2, 3), value.float())
    output = mixed.reshape(batch, query_heads, rows, -1).to(query.dtype)
    return output, log_sum_exp.flatten(1, 2)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right`; a `right` of batch 1 is read once for all rows of the batch."""
    batch, heads, rows, _ = left.shape
    if right.shape[0] == batch:
        return left @ right
    folded = left.transpose(0, 1).reshape(1, heads, batch * rows, -1)
    return (folded @ right).view(heads, batch, rows, -1).transpose(0, 1)
