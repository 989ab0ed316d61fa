"""The task vector τ: the direction from question tokens to answer tokens, per layer and KV head.

TASM (arXiv 2606.11853) equations (5) to (7). Knows centroids and a decoder layer's own modules.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from tasm.compress.draws import normal
from tasm.compress.evidence import Evidence
from tasm.compress.records.centroids import Centroids
from tasm.errors import ModelError

Direction = Literal["keys", "hidden", "random"]


def task_vector(evidence: Evidence, centroids: Centroids, direction: Direction) -> Tensor:
    """Return τ, (kv_heads, head_dim) float32 of length 1 per head.

    "keys" takes centroids of keys before rotation; "hidden" pushes centroids of hidden states
    through the layer's input norm, W_K and key norm; "random" draws a direction, for ablations.
    """
    if direction == "random":
        shape = (evidence.kv_heads, evidence.keys.shape[-1])
        drawn = normal(evidence.seed, "direction", evidence.layer, *shape)
        difference = drawn.to(evidence.keys.device)
    else:
        question, answer = centroids.means
        if direction == "hidden":
            question, answer = (project(evidence.module, mean) for mean in (question, answer))
        difference = answer - question
    return torch.nn.functional.normalize(difference, dim=-1)


def project(layer: nn.Module | None, hidden: Tensor) -> Tensor:
    """Return the plain keys (kv_heads, head_dim) that a decoder layer makes of a hidden state
    (hidden_size,)."""
    attention: Any = getattr(layer, "self_attn", None)
    norm = getattr(layer, "input_layernorm", None)
    projection = getattr(attention, "k_proj", None)
    if attention is None or projection is None or norm is None:
        raise ModelError(
            f"{type(layer).__name__} has no `self_attn.k_proj` and `input_layernorm`, which a task "
            "vector from hidden states needs. Use the recipe 'tasm', whose task vector comes from "
            "keys."
        )
    # The norm's dtype: a quantised projection's own says nothing of what it takes. A row of one,
    # because quantised projections take rows.
    held = (*norm.parameters(), *projection.parameters())
    dtype = next((p.dtype for p in held if p.is_floating_point()), torch.float32)
    keys = projection(norm(hidden.to(dtype))[None])[0].unflatten(-1, (-1, attention.head_dim))
    key_norm = getattr(attention, "k_norm", None)
    return (keys if key_norm is None else key_norm(keys)).float()


def cosine_to(keys: Tensor, direction: Tensor) -> Tensor:
    """Return (kv_heads, entries) the cosine between (kv_heads, entries, head_dim) keys and
    (kv_heads, head_dim) directions of length 1."""
    products = (keys @ direction[..., None])[..., 0]
    return products / keys.norm(dim=-1).clamp(min=1e-12)
