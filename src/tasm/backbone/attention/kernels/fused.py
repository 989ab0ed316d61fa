"""The fused kernels that also return the log-sum-exp, behind one signature.

`kernel(query, key, value, bias, scaling, causal)`: query (batch, query_heads, rows, head_dim); key,
value (batch, kv_heads, tokens, head_dim); bias None or (1 or batch, 1 or query_heads, 1 or rows,
tokens), added to the logits. Returns (batch, query_heads, rows, head_dim) in the query's dtype and
(batch, query_heads, rows) float32. All of them sum logits in float32.

They are private operators of torch: the public `scaled_dot_product_attention` runs the same ones
and keeps the log-sum-exp to itself.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

_ALIGNED = 16
"""Tokens to whose multiple the memory-efficient kernel wants a bias stored."""

WIDER = 8
"""Numbers by which `widened` widens heads: flash attention wants multiples of eight."""

_PARTS = 3
"""16-bit numbers that hold a float32 one: 24 bits in three of bfloat16's eight."""

_FAR = 3e4
"""Logits before scaling that weigh nothing any more and that float16 still holds."""


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
    """Flash attention of a CUDA device from Ampere on: float16 and bfloat16, no bias, heads of a
    multiple of eight numbers up to 256, one beside the other; shares KV heads itself."""
    output, log_sum_exp, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, causal, False, scale=scaling
    )
    return output, log_sum_exp


def cuda_efficient(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """Memory-efficient attention of a CUDA device: any dtype, a bias in the query's own dtype.

    It wants as many KV heads as query heads. So KV heads are counted with the batch, and a group's
    query heads share theirs by a stride of zero, which the kernel knows: nothing is repeated.
    """
    batch, heads, rows, _ = query.shape
    kv_heads, tokens = key.shape[1:3]

    def folded(tensor: Tensor) -> Tensor:
        """(1 or batch, 1 or kv_heads or heads, …) as (batch · kv_heads, group, …)."""
        held = max(tensor.shape[1], kv_heads)
        own = tensor.expand(batch, held, -1, -1).reshape(batch * kv_heads, -1, *tensor.shape[2:])
        return own.expand(-1, heads // kv_heads, -1, -1)

    if bias is not None:
        bias = folded(pad(bias, (0, -tokens % _ALIGNED)))[..., :tokens].expand(-1, -1, rows, -1)
    output, log_sum_exp, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        folded(query), folded(key), folded(value), bias, True, 0.0, causal, scale=scaling
    )
    log_sum_exp = log_sum_exp[:, :, :rows]  # stored for whole tiles of rows
    return output.reshape(batch, heads, rows, -1), log_sum_exp.reshape(batch, heads, rows)


def cuda_flash_widened(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """Flash attention of a CUDA device with a float32 bias a key, (1 or batch, 1 or heads, 1,
    tokens): the bias rides in further numbers of the keys (see `widened`)."""
    if bias is None:
        return cuda_flash(query, key, value, bias, scaling, causal)
    wide = widened(query, key, value, bias, scaling)
    output, log_sum_exp = cuda_flash(*wide, None, scaling, causal)
    return output[..., : value.shape[3]], log_sum_exp


def widened(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value with `WIDER` more numbers each, whose plain attention is that of
    the given ones with `bias`.

    Ones in the queries meet bias / scaling in the keys, as three 16-bit numbers that add up to
    the float32 one; the values get zeros. Products are summed in float32, so nothing is rounded
    that a bias added to the logits would not round.
    """
    rest = (bias[:, :, 0] / scaling).clamp(-_FAR, _FAR)
    extra = key.new_zeros(*key.shape[:3], WIDER)
    for part in range(_PARTS):
        held = rest.to(key.dtype)
        extra[..., part] = held
        rest = rest - held
    ones = query.new_zeros(WIDER)
    ones[:_PARTS] = 1
    return (
        torch.cat([query, ones.expand(*query.shape[:3], WIDER)], -1),
        torch.cat([key, extra], -1),
        pad(value, (0, WIDER)),
    )


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
