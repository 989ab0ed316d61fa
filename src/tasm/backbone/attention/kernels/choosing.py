"""Which kernel attends to a run of keys, and how queries are laid out for it.

Keys shared by a batch are read once: batch, query heads of a KV head and tokens all become rows of
one product. Nothing shared is expanded over heads or batch.
"""

from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from tasm.backbone.attention.kernels.fused import cpu_flash, cuda_efficient, cuda_flash, flex
from tasm.backbone.attention.kernels.written_out import written_out_attention

Kernel = Literal["cpu flash", "cuda flash", "cuda efficient", "flex", "written out"]

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, float, bool], tuple[Tensor, Tensor]]

_PACKED_ROWS = 16
"""On a CPU, up to so many tokens of one row are packed; more run faster head by head."""

_NOTHING = -1e30
"""The log-sum-exp of no key at all; finite, so that nothing merged with nothing is no NaN."""

_HALVES = (torch.float16, torch.bfloat16)
_FUSED = {"cpu flash": cpu_flash, "cuda flash": cuda_flash, "cuda efficient": cuda_efficient}


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
    head_dim); bias (1 or batch, 1 or kv_heads, 1 or rows, tokens), float32, or the query's dtype
    where that holds it exactly, as it does a mask. Returns (batch, query_heads, rows, head_dim) in
    the query's dtype and (batch, query_heads, rows) in float32. `causal` needs as many tokens as
    rows. Keys of batch 1 serve every row without being expanded.
    """
    if key.shape[2] == 0:  # the CPU's kernel would end the process
        nothing = torch.full(query.shape[:3], _NOTHING, device=query.device)
        return query.new_zeros(*query.shape[:3], value.shape[3]), nothing
    kernel = kernel_for(
        query.device.type, query.dtype, query.shape[3], value.shape[3], bias, softcap
    )
    if kernel == "written out":
        return written_out_attention(query, key, value, bias, scaling, softcap, causal)
    attend: Attend = partial(flex, softcap=softcap) if kernel == "flex" else _FUSED[kernel]
    batch, query_heads, rows, _ = query.shape
    kv_heads = key.shape[1]
    group = query_heads // kv_heads
    shared = key.shape[0] == 1
    rowwise = bias is not None and (bias.shape[2] > 1 or bias.shape[0] > 1)
    # One row of a batch packs by a view; several only where nothing differs from row to row.
    packs = not causal and (
        rows == 1
        if not shared
        else (batch == 1 and (query.device.type != "cpu" or rows <= _PACKED_ROWS))
        or (batch > 1 and not rowwise)
    )
    if packs and (batch == 1 or not shared):
        if bias is not None and bias.shape[2] > 1:
            bias = bias.repeat(1, 1, group, 1)
        packed = query.reshape(batch, kv_heads, group * rows, -1)
        output, log_sum_exp = attend(packed, key, value, bias, scaling, False)
        return (
            output.reshape(batch, query_heads, rows, -1),
            log_sum_exp.reshape(batch, query_heads, rows),
        )
    if packs:
        return _over_shared_keys(attend, query, key, value, bias, scaling)
    if batch > 1 and shared:
        key, value = key.expand(batch, -1, -1, -1), value.expand(batch, -1, -1, -1)
    if bias is not None and bias.shape[1] > 1:
        bias = bias.repeat_interleave(group, 1)
    output, log_sum_exp = attend(query, key, value, bias, scaling, causal)
    return output, log_sum_exp


def _over_shared_keys(
    attend: Attend,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scaling: float,
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


def kernel_for(
    device_type: str,
    dtype: torch.dtype,
    head_dim: int,
    value_dim: int,
    bias: Tensor | None,
    softcap: float | None,
) -> Kernel:
    """Return the name of the kernel that is exact and fast here.

    | device | what is asked | kernel |
    |---|---|---|
    | CPU | no soft cap, keys and values of one size | flash |
    | CUDA | 16 bits, no bias | flash |
    | CUDA | no bias, or one in the query's dtype | memory-efficient |
    | CUDA | a soft cap, a float32 bias beside 16-bit keys, odd sizes | flex, if Triton is there |
    | any other | | written out |
    """
    same = head_dim == value_dim
    if device_type == "cpu":
        return "cpu flash" if softcap is None and same else "written out"
    if device_type != "cuda":
        return "written out"
    if softcap is None and same and head_dim % 8 == 0:
        if bias is None and dtype in _HALVES and head_dim <= 256:
            return "cuda flash"
        if bias is None or bias.dtype == dtype:
            return "cuda efficient"
    return "flex" if _has_triton() else "written out"


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
