"""The attention function and mask function registered with transformers under the name "tasm".

Knows segments and one callable, `Extra`; that the callable is a gate over a bank is not known here.
Without a `MemoryCache` it is ordinary attention.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from tasm.backbone.partial import merge, partial_attention
from tasm.backbone.recording import AttentionCall, segment_bias
from tasm.backbone.segment import Segment

ATTENTION = "tasm"
"""The name under which the attention and its masks are registered."""


def memory_attention(
    module: nn.Module,
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
    """Attend to the live tokens, the layer's segments and what `extra` brings, merged by log-sum-exp.

    Follows the protocol of `transformers.AttentionInterface`: query (batch, query_heads, n, head_dim),
    key and value (batch, kv_heads, live tokens, head_dim); returns (batch, n, query_heads, head_dim).
    `dropout` is not applied: the model is frozen.
    """
    layer = getattr(key, "tasm_layer", None)
    batch, query_heads, n, head_dim = query.shape
    scaling = head_dim**-0.5 if scaling is None else scaling
    mask = _additive(attention_mask, key.shape[2])
    causal = mask is None and n > 1
    parts = [partial_attention(query, key, value, mask, scaling, softcap, causal)]
    segments: tuple[Segment, ...] = ()
    if layer is not None:
        segments = layer.segments
        rows = layer.rows
        if rows.extra is not None:
            brought = rows.extra(
                module.layer_idx, _last_query(query, key.shape[1], rows.last), scaling
            )
            segments = segments if brought is None else (*segments, brought)
        for segment in segments:
            bias = segment_bias(segment, rows.index, sliding_window)
            parts.append(
                partial_attention(query, segment.keys, segment.values, bias, scaling, softcap)
            )
    sink = None if s_aux is None else s_aux.float().view(1, query_heads, 1)
    output, log_sum_exp = merge(parts, sink)
    if layer is not None:
        layer.pending = False
        if layer.rows.recorder is not None:
            layer.rows.recorder(
                AttentionCall(
                    module.layer_idx, module, query, key, value, segments, mask, log_sum_exp,
                    scaling, softcap, layer.rows.index, sliding_window,
                )
            )  # fmt: skip
    return output.transpose(1, 2).contiguous(), None


def _additive(mask: Tensor | None, tokens: int) -> Tensor | None:
    """A float32 mask over the live tokens from whatever the model passes."""
    if mask is None:
        return None
    mask = mask[..., :tokens]
    if mask.dtype == torch.bool:
        return torch.where(mask, 0.0, torch.finfo(torch.float32).min)
    return mask.float()


def _last_query(query: Tensor, kv_heads: int, last: Tensor | None) -> Tensor:
    """The query of each row's last live token, grouped by KV head."""
    if last is None:
        chosen = query[:, :, -1]
    else:
        place = last.view(-1, 1, 1, 1).expand(-1, query.shape[1], 1, query.shape[3])
        chosen = query.gather(2, place).squeeze(2)
    return chosen.unflatten(1, (kv_heads, -1))


def memory_mask(*arguments: Any, **options: Any) -> Tensor | None:
    """Return the mask over the live tokens: float32 added to the logits, or None where it says nothing.

    Follows the protocol of `transformers.AttentionMaskInterface` from 4.57 (`cache_position`) to 5.x.
    None means plain causal attention among as many keys as queries, or a single query that sees every key.
    """
    if _says_nothing(options):
        return None
    options["allow_is_causal_skip"] = False  # transformers' own skip assumes its own alignment
    mask = sdpa_mask(*arguments, **options)
    return torch.where(mask, 0.0, torch.finfo(torch.float32).min)


def _says_nothing(options: dict[str, Any]) -> bool:
    if not options.get("allow_is_causal_skip", False) or "kv_length" not in options:
        return False
    queries = options.get("q_length")
    if queries is None:
        queries = options["cache_position"].shape[0]
    keys, window, padding = (
        options["kv_length"],
        options.get("local_size"),
        options.get("attention_mask"),
    )
    if options.get("kv_offset", 0) != 0 or (queries > 1 and keys != queries):
        return False
    if window is not None and keys > window:
        return False
    if padding is None:
        return True
    if torch.compiler.is_compiling():  # reading the mask's values would break the graph
        return False
    return padding.shape[-1] >= keys and bool(padding[:, :keys].all())


AttentionInterface.register(ATTENTION, memory_attention)
AttentionMaskInterface.register(ATTENTION, memory_mask)
