"""Which kernel attends to a run of keys, and how queries are laid out for it.

Keys shared by a batch are read once: batch, query heads of a KV head and tokens all become rows of
one product. Nothing shared is expanded over heads or batch.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from tasm.backbone.attention.kernels.fused import (
    WIDER,
    cpu_flash,
    cuda_efficient,
    cuda_flash,
    cuda_flash_widened,
)
from tasm.backbone.attention.kernels.written_out import (
    differentiable_attention,
    written_out_attention,
)

Kernel = Literal["cpu flash", "cuda flash", "cuda flash, widened", "cuda efficient", "written out"]

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, float, bool], tuple[Tensor, Tensor]]

_PACKED_ROWS = 16
"""On a CPU, up to so many tokens of one row are packed; more run faster head by head."""

_NOTHING = -1e30
"""The log-sum-exp of no key at all; finite, so that nothing merged with nothing is no NaN."""

_LARGEST_HEAD = 256
"""Numbers a head that flash attention of a CUDA device takes."""

_AMPERE = 8

_HALVES = (torch.float16, torch.bfloat16)
_FUSED: dict[Kernel, Attend] = {
    "cpu flash": cpu_flash,
    "cuda flash": cuda_flash,
    "cuda flash, widened": cuda_flash_widened,
    "cuda efficient": cuda_efficient,
}


def partial_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    causal: bool = False,
    *,
    alone: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the softmax attention over one run of keys, and its log-sum-exp in nats.

    ```python
    output, log_sum_exp = partial_attention(query, key, value, None, head_dim ** -0.5)
    ```

    Shapes: query (batch, query_heads, rows, head_dim); key, value (1 or batch, kv_heads, tokens,
    head_dim); bias (1 or batch, 1 or kv_heads, 1 or rows, tokens), float32, or the query's dtype
    where that holds it exactly, as it does a mask. Returns (batch, query_heads, rows, head_dim) in
    the query's dtype and (batch, query_heads, rows) in float32. `causal` needs as many tokens as
    rows. Keys of batch 1 serve every row without being expanded. Where a gradient is wanted all
    logits are held, in float32, unless the run is `alone`: nothing is merged with it, so that no
    gradient goes through its log-sum-exp.
    """
    if key.shape[2] == 0:  # the CPU's kernel would end the process
        nothing = torch.full(query.shape[:3], _NOTHING, device=query.device)
        return query.new_zeros(*query.shape[:3], value.shape[3]), nothing
    kernel = kernel_for(
        _kind(query.device),
        query.dtype,
        query.shape[3],
        value.shape[3],
        key.shape[0],
        bias,
        softcap,
    )
    is_followed = torch.is_grad_enabled() and any(
        given is not None and given.requires_grad for given in (query, key, value, bias)
    )
    if is_followed and not (alone and kernel in _FUSED):
        return differentiable_attention(query, key, value, bias, scaling, softcap, causal)
    if kernel == "written out":
        return written_out_attention(query, key, value, bias, scaling, softcap, causal)
    attend = _FUSED[kernel]
    batch, query_heads, rows, _ = query.shape
    kv_heads = key.shape[1]
    group = query_heads // kv_heads
    if batch > 1 and key.shape[0] == 1:
        if not causal and (bias is None or bias.shape[0] == bias.shape[2] == 1):
            return _over_shared_keys(attend, query, key, value, bias, scaling)
        if not causal and bias is not None and query.device.type != "cpu":
            return _rows_of_all(attend, query, key, value, bias, scaling)
        key, value = key.expand(batch, -1, -1, -1), value.expand(batch, -1, -1, -1)
    if not causal and _packs(query, bias):
        if bias is not None and bias.shape[2] > 1:
            bias = bias.repeat(1, 1, group, 1)
        packed = query.reshape(batch, kv_heads, group * rows, -1)
        output, log_sum_exp = attend(packed, key, value, bias, scaling, False)
        return (
            output.reshape(batch, query_heads, rows, -1),
            log_sum_exp.reshape(batch, query_heads, rows),
        )
    if bias is not None and bias.shape[1] > 1:
        bias = bias.repeat_interleave(group, 1)
    output, log_sum_exp = attend(query, key, value, bias, scaling, causal)
    return output, log_sum_exp


def _kind(device: torch.device) -> str:
    """The device's type; a GPU before Ampere, which flash attention refuses, has its own."""
    if device.type == "cuda" and torch.cuda.get_device_properties(device).major < _AMPERE:
        return "older cuda"
    return device.type


def _packs(query: Tensor, bias: Tensor | None) -> bool:
    """Whether the query heads of a KV head become rows of one product, which is a view."""
    batch, _, rows, _ = query.shape
    if query.device.type == "cpu":
        return rows == 1 or (batch == 1 and rows <= _PACKED_ROWS)
    return bias is None or bias.shape[2] == 1


def _over_shared_keys(
    attend: Attend, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float
) -> tuple[Tensor, Tensor]:
    """Batch, group and tokens all become rows: the keys are read once for the whole batch."""
    batch, query_heads, rows, head_dim = query.shape
    kv_heads = key.shape[1]
    packed = query.reshape(batch, kv_heads, -1, head_dim).transpose(0, 1)
    packed = packed.reshape(1, kv_heads, -1, head_dim)
    output, log_sum_exp = attend(packed, key, value, bias, scaling, False)
    output = output.view(kv_heads, batch, query_heads // kv_heads, rows, -1)
    log_sum_exp = log_sum_exp.reshape(kv_heads, batch, query_heads // kv_heads, rows)
    return output.transpose(0, 1).flatten(1, 2), log_sum_exp.transpose(0, 1).flatten(1, 2)


def _rows_of_all(
    attend: Attend, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    """Batch and tokens become rows, each with a bias of its own; the CPU takes broadcast views."""
    batch, query_heads, rows, _ = query.shape
    if bias.shape[1] > 1:
        bias = bias.repeat_interleave(query_heads // bias.shape[1], 1)
    bias = bias.expand(batch, -1, rows, -1).transpose(0, 1).flatten(1, 2)[None]
    packed = query.transpose(0, 1).flatten(1, 2)[None]
    output, log_sum_exp = attend(packed, key, value, bias, scaling, False)
    return (
        output[0].unflatten(1, (batch, rows)).transpose(0, 1),
        log_sum_exp[0].unflatten(1, (batch, rows)).transpose(0, 1),
    )


def kernel_for(
    device_type: str,
    dtype: torch.dtype,
    head_dim: int,
    value_dim: int,
    key_batch: int,
    bias: Tensor | None,
    softcap: float | None,
) -> Kernel:
    """Return the name of the kernel that is exact and fast here.

    | device | what is asked | kernel |
    |---|---|---|
    | CPU | no soft cap, keys and values of one size | flash |
    | CUDA | 16 bits, no bias | flash |
    | CUDA | 16 bits, a float32 bias a key | flash over widened keys |
    | CUDA | no bias, or one in the query's dtype | memory-efficient |
    | CUDA before Ampere | not bfloat16; no bias, or one in the query's dtype | memory-efficient |
    | any other: a soft cap, odd sizes, a float32 bias a row beside 16-bit keys | | written out |

    Nothing is compiled on the way: the first answer of a process is as fast as the next.
    """
    same = head_dim == value_dim
    if device_type == "cpu":
        return "cpu flash" if softcap is None and same else "written out"
    if softcap is not None or not same or head_dim % 8:
        return "written out"
    if device_type == "older cuda":
        fits = dtype != torch.bfloat16 and (bias is None or bias.dtype == dtype)
        return "cuda efficient" if fits else "written out"
    if device_type != "cuda":
        return "written out"
    if bias is None and dtype in _HALVES and head_dim <= _LARGEST_HEAD:
        return "cuda flash"
    if bias is None or bias.dtype == dtype:
        return "cuda efficient"
    of_keys = bias.shape[2] == 1 and bias.shape[0] in (1, key_batch)
    return "cuda flash, widened" if of_keys and head_dim + WIDER <= _LARGEST_HEAD else "written out"
