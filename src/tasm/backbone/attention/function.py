"""The attention function and mask function registered with transformers under the name "tasm".

Knows segments and one callable, `Extra`; that the callable is a gate over a bank is not known here.
Without a `MemoryCache` it is ordinary attention.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from tasm.backbone.attention.attention_call import AttentionCall, segment_bias
from tasm.backbone.attention.kernels import merge, partial_attention, total_log_sum_exp
from tasm.backbone.attention.segment import Segment, Weight

ATTENTION = "tasm"
"""The name under which the attention and its masks are registered."""

Part = tuple[Tensor, Tensor]
_LOWEST = torch.finfo(torch.float32).min


def memory_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Attend to the live tokens, the layer's segments and what `extra` brings, merged exactly.

    Follows the protocol of `transformers.AttentionInterface`: query (batch, query_heads, n,
    head_dim), key and value (batch, kv_heads, live tokens, head_dim); returns (batch, n,
    query_heads, head_dim). `dropout` is not applied: the model is frozen.
    """
    layer = getattr(key, "tasm_layer", None)
    n = query.shape[2]
    scaling = query.shape[3] ** -0.5 if scaling is None else scaling
    mask = _additive(attention_mask, query, key.shape[2])
    causal = mask is None and n > 1
    brings = layer is not None and (len(layer.segments) > 0 or layer.rows.extra is not None)
    alone = s_aux is None and not brings
    live = partial_attention(query, key, value, mask, scaling, softcap, causal, alone=alone)
    parts: list[Part] = []
    segments: tuple[Segment, ...] = ()
    if layer is not None:
        rows, segments = layer.rows, layer.segments

        def read(segment: Segment) -> Part:
            bias = segment_bias(segment, rows.index, sliding_window)
            return partial_attention(query, segment.keys, segment.values, bias, scaling, softcap)

        parts = [read(segment) for segment in segments]
        if rows.extra is not None:
            last = _last_rows(query, rows.last, key.shape[1])
            weight = _weight(parts, rows.last, key.shape[1]) if softcap is None else None
            brought = rows.extra(module.layer_idx, last, scaling, weight)
            if brought is not None:
                segments = (*segments, brought)
                parts.append(read(brought))
    parts.append(live)
    sink = None if s_aux is None else s_aux.float().view(1, -1, 1)
    output = merge(parts, sink)
    if layer is not None:
        layer.pending = False
        if rows.recorder is not None:
            call = AttentionCall(
                layer=module.layer_idx,
                module=module,
                query=query,
                key=key,
                value=value,
                segments=segments,
                mask=mask,
                log_sum_exp=total_log_sum_exp(parts, sink),
                scaling=scaling,
                softcap=softcap,
                index=rows.index,
                sliding_window=sliding_window,
                output=output,
            )
            rows.recorder(call)
    return output.transpose(1, 2).contiguous(), None


def _last_rows(query: Tensor, last: Tensor | None, kv_heads: int) -> Tensor:
    """Each row's last live query, (batch, kv_heads, group, head_dim); `last` is None where it is
    the last token."""
    batch, query_heads, n, head_dim = query.shape
    if last is not None:  # of the decoder's first device; its later layers may lie on another
        last = last.to(query.device)
        query = query.gather(2, last.view(batch, 1, 1, 1).expand(-1, query_heads, 1, head_dim))
    elif n > 1:
        query = query[:, :, -1]
    return query.reshape(batch, kv_heads, query_heads // kv_heads, head_dim)


def _weight(parts: list[Part], last: Tensor | None, kv_heads: int) -> Weight | None:
    """What gives the log-sum-exp of each row's last live query over one segment, (batch, kv_heads,
    group): nothing is done before it is asked for."""
    if len(parts) != 1:
        return None
    log_sum_exp = parts[0][1]
    return lambda: _last_rows(log_sum_exp[..., None], last, kv_heads)[..., 0]


def _additive(mask: Tensor | None, query: Tensor, tokens: int) -> Tensor | None:
    """A mask over the live tokens to add to their logits, from whatever the model passes: float32,
    or on CUDA of the query's dtype, as the kernel there wants it and stock attention gives it."""
    if mask is None:
        return None
    mask = mask[..., :tokens]
    mask = torch.where(mask, 0.0, _LOWEST) if mask.dtype == torch.bool else mask.float()
    if query.device.type != "cuda" or query.dtype == torch.float32:
        return mask
    return mask.clamp(min=torch.finfo(query.dtype).min).to(query.dtype)


def memory_mask(*arguments: Any, **options: Any) -> Tensor | None:
    """Return the float32 mask added to the live logits, or None where it would say nothing.

    Follows the protocol of `transformers.AttentionMaskInterface` from 4.57 (`cache_position`) to
    5.x. None means plain causal attention among as many keys as queries, or a single query that
    sees every key.
    """
    if _says_nothing(options):
        return None
    options["allow_is_causal_skip"] = False  # transformers' own skip assumes its own alignment
    return torch.where(sdpa_mask(*arguments, **options), 0.0, _LOWEST)


def _says_nothing(options: dict[str, Any]) -> bool:
    if not options.get("allow_is_causal_skip", False) or "kv_length" not in options:
        return False
    queries = options.get("q_length")
    if queries is None:
        queries = options["cache_position"].shape[0]
    keys, window = options["kv_length"], options.get("local_size")
    if options.get("kv_offset", 0) != 0 or (queries > 1 and keys != queries):
        return False
    if window is not None and keys > window:
        return False
    padding = options.get("attention_mask")
    if padding is None:
        return True
    if torch.compiler.is_compiling():  # reading the mask's values would break the graph
        return False
    return padding.shape[-1] >= keys and bool(padding[:, :keys].all())


AttentionInterface.register(ATTENTION, memory_attention)
AttentionMaskInterface.register(ATTENTION, memory_mask)
