"""Attention in plain operations: any device, any dtype, soft capping; the oracle of the kernels."""

import torch
from torch import Tensor

_BLOCK = 1 << 24
"""Logits held at once, in elements."""


def written_out_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """The same as `partial_attention`, written out block of rows by block of rows."""
    batch, query_heads, rows, _ = query.shape
    tokens = key.shape[2]
    step = max(1, _BLOCK // max(1, batch * query_heads * tokens))
    key, stored = key.float(), value.float()
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
        weights = (logits - log_sum_exp[..., None]).exp_()
        mixed = (weights.flatten(2, 3) @ stored).view(batch, query_heads, block.shape[2], -1)
        outputs.append(mixed.to(query.dtype))
        sums.append(log_sum_exp.flatten(1, 2))
    return torch.cat(outputs, 2), torch.cat(sums, 2)


def grouped_logits(
    query: Tensor, key: Tensor, bias: Tensor | None, scaling: float, softcap: float | None
) -> Tensor:
    """Return float32 logits (batch, kv_heads, group, rows, tokens): scaled, soft-capped, biased.

    Shapes are those of `partial_attention`.
    """
    batch, query_heads, rows, head_dim = query.shape
    kv_heads = key.shape[1]
    packed = query.reshape(batch, kv_heads, -1, head_dim)
    # In float32 throughout: a product in 16 bits would round the logits before the softmax.
    logits = (packed.float() @ key.float().transpose(2, 3)).mul_(scaling)
    logits = logits.reshape(batch, kv_heads, query_heads // kv_heads, rows, key.shape[2])
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    return logits if bias is None else logits.add_(bias.unsqueeze(2))
