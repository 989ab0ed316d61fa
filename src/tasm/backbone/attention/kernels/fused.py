"""The fused kernels that also return the log-sum-exp, behind one signature.

`kernel(query, key, value, bias, scaling, causal)`: query (batch, query_heads, rows, head_dim); key,
value (batch, kv_heads, tokens, head_dim); bias None or (1 or batch, 1 or query_heads, 1 or rows,
tokens), added to the logits. Returns (batch, query_heads, rows, head_dim) in the query's dtype and
(batch, query_heads, rows) float32. All of them sum logits in float32.

They are private operators of torch: the public `scaled_dot_product_attention` runs the same ones
and keeps the log-sum-exp to itself.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

_ALIGNED = 16
"""Tokens to whose multiple the memory-efficient kernel wants a bias stored."""


def cpu_flash(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """Flash attention of a CPU; takes broadcast views and a float32 bias with any dtype."""
    if query.shape[1] != key.shape[1] and not _TAKES_GROUPED_HEADS:
        key, value = _repeated(query, key), _repeated(query, value)
    output, log_sum_exp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, attn_mask=bias, scale=scaling
    )
    return output, log_sum_exp


def cuda_flash(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """Flash attention of a CUDA device: float16 and bfloat16, no bias."""
    key, value = _repeated(query, key), _repeated(query, value)
    output, log_sum_exp, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, causal, False, scale=scaling
    )
    return output, log_sum_exp


def cuda_efficient(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """Memory-efficient attention of a CUDA device: any dtype, a bias in the query's own dtype."""
    key, value = _repeated(query, key), _repeated(query, value)
    batch, heads, rows, _ = query.shape
    if bias is not None:
        tokens = key.shape[2]
        bias = pad(bias, (0, -tokens % _ALIGNED))[..., :tokens].expand(batch, heads, rows, tokens)
    output, log_sum_exp, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, True, 0.0, causal, scale=scaling
    )
    return output, log_sum_exp[:, :, :rows]  # stored for whole tiles of rows


def flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scaling: float,
    causal: bool,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Flex attention: soft caps, float32 biases beside 16-bit keys, odd head sizes."""

    def score(logit: Tensor, b: Tensor, h: Tensor, row: Tensor, token: Tensor) -> Tensor:
        if softcap is not None:
            logit = torch.tanh(logit / softcap) * softcap
        if bias is not None:
            sizes = bias.shape
            logit = (
                logit
                + bias[
                    b if sizes[0] > 1 else 0,
                    h if sizes[1] > 1 else 0,
                    row if sizes[2] > 1 else 0,
                    token,
                ]
            )
        return torch.where(token > row, -torch.inf, logit) if causal else logit

    attend, asking = _flex_attention(query.device.type)
    output, told = attend(
        query, key, value, score_mod=score, scale=scaling, enable_gqa=True, **asking
    )
    return output, (told if isinstance(told, Tensor) else told.lse).float()


@cache
def _flex_attention(device_type: str) -> tuple[Any, dict[str, Any]]:
    """The compiled function where it is fused, the plain one on a CPU, where only tests run it;
    and how this torch is asked for the log-sum-exp."""
    from torch.nn.attention import flex_attention as home

    asking: dict[str, Any] = {"return_lse": True}  # until torch 2.9
    if hasattr(home, "AuxRequest"):
        asking = {"return_aux": home.AuxRequest(lse=True)}
    plain = home.flex_attention
    return (plain if device_type == "cpu" else torch.compile(plain, dynamic=True)), asking


def _repeated(query: Tensor, stored: Tensor) -> Tensor:
    group = query.shape[1] // stored.shape[1]
    return stored if group == 1 else stored.repeat_interleave(group, 1)


def _takes_grouped_heads() -> bool:
    """Whether the CPU kernel shares a KV head among query heads; older ones would read on."""
    query = torch.ones(1, 2, 1, 8)
    stored = torch.arange(32.0).reshape(1, 2, 2, 8)  # reading on stays inside this tensor
    output = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, stored[:, :1], stored[:, :1], 0.0, False
    )[0]
    return torch.equal(output[:, 0], output[:, 1])


_TAKES_GROUPED_HEADS = _takes_grouped_heads()
