"""What a demonstration writes for an answer: its attended values, through to the logits.

The values that attention takes from a demonstration go through the layer's output projection into
the residual stream, which the model's head reads at the end. Their product with the direction in
which the answer's first token gains log-odds says what speaks for the answer and what against it
(direct logit attribution; Elhage et al. 2021). What later layers make of it is not followed. Knows
modules and tensors; nothing of memories.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tasm.backbone.model import Backbone

_COMPARED = 1024
"""The likeliest other tokens that one is compared with."""

_PROJECTIONS = ("o_proj", "out_proj", "dense", "wo", "c_proj")


def written_by(attention: nn.Module, values: Tensor) -> Tensor | None:
    """Return what attended values add to the residual stream, (rows, parts, hidden) float32 on the
    CPU; None where the module's output projection is not found.

    `values` is (rows, kv_heads, group, parts, head_dim).
    """
    projection: Any = next(
        (found for name in _PROJECTIONS if (found := getattr(attention, name, None)) is not None),
        None,
    )
    if projection is None:
        return None
    rows, kv_heads, group, parts, width = values.shape
    flat = values.permute(0, 3, 1, 2, 4).reshape(rows, parts, kv_heads * group * width)
    flat = flat.to(getattr(projection, "weight", flat).dtype) if _is_plain(projection) else flat
    try:
        written = projection(flat)
    except RuntimeError:  # of other sizes: heads are joined in another way
        return None
    bias = getattr(projection, "bias", None)
    written = written if bias is None else written - bias
    return written.float().cpu()


def _is_plain(projection: Any) -> bool:
    weight = getattr(projection, "weight", None)
    return isinstance(weight, Tensor) and weight.is_floating_point()


@torch.inference_mode()
def supports(
    backbone: Backbone, written: Tensor | None, first_logits: Tensor, tokens: list[int]
) -> list[tuple[float, ...] | None]:
    """Return for every row how much each part speaks for the row's first token, or None.

    `written` is (rows, parts, hidden), `first_logits` (rows, vocabulary). The numbers of a row are
    shares: their absolute values sum to 1, and those below 0 speak against the token.
    """
    weights = _output_weights(backbone)
    if written is None or weights is None or written.shape[-1] != weights.shape[1]:
        return [None] * len(tokens)
    scale = _final_scale(backbone, weights)
    found: list[tuple[float, ...] | None] = []
    for row, token in enumerate(tokens):
        others = first_logits[row].float().clone()
        others[token] = -torch.inf
        logits, likeliest = others.topk(min(_COMPARED, len(others)))
        shares = logits.softmax(-1).to(weights.device, weights.dtype)
        instead = shares @ weights[likeliest.to(weights.device)]
        direction = (weights[token] - instead).float() * scale
        moved = written[row] @ direction.cpu()
        found.append(tuple((moved / moved.abs().sum().clamp_min(1e-30)).tolist()))
    return found


def _output_weights(backbone: Backbone) -> Tensor | None:
    get = getattr(backbone.core, "get_output_embeddings", None)
    head = get() if callable(get) else None
    weight = getattr(head, "weight", None)
    is_plain = isinstance(weight, Tensor) and weight.is_floating_point() and weight.ndim == 2
    return weight.detach() if is_plain and weight is not None else None


def _final_scale(backbone: Backbone, weights: Tensor) -> Tensor:
    """(hidden,) what the last norm multiplies each direction with, measured; ones without a norm.

    A vector of ones with alternating signs has mean 0 and length 1, whatever the kind of norm.
    """
    norm = getattr(backbone.decoder, "norm", None)
    signs = torch.ones(weights.shape[1], device=weights.device, dtype=weights.dtype)
    signs[1::2] = -1
    if norm is None:
        return torch.ones_like(signs).float()
    try:
        both = norm(torch.stack([signs, -signs])).float()
    except (RuntimeError, TypeError):
        return torch.ones_like(signs).float()
    return (both[0] - both[1]) / 2 * signs.float()
