"""The gate: does this query look at the core differently from what the core was built for?

TASM (arXiv 2606.11853) equation (15). Knows distributions, not where they come from: neither the
bank nor the cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

GateKind = Literal["js", "always", "never"]


@dataclass(frozen=True)
class GateSettings:
    """When a query retrieves, and how much.

    Attributes:
        kind: "js" compares distributions, "always" retrieves at every step, "never" not at all.
        epsilon: threshold in nats, or "calibrated" for the one measured while building.
        layers: layers that may retrieve; None for every layer that has a bank.
        top_k: tokens retrieved per layer and KV head.
        largest_share: `top_k` is capped at this share of the demonstrations' tokens; 1.0 for the
            literal `top_k`.
        granularity: what a retrieved token brings with it: "token" (nothing).
    """

    kind: GateKind = "js"
    epsilon: float | Literal["calibrated"] = "calibrated"
    layers: tuple[int, ...] | None = None
    top_k: int = 96
    largest_share: float = 0.1
    granularity: str = "token"


@dataclass(frozen=True)
class GateReference:
    """What the gate learned while the memory was built.

    Attributes:
        layers: per layer (kv_heads, core tokens), how the demonstrations' own answer queries look
            at the reduced core: probabilities, each row sums to one; None for a layer not gated.
        thresholds: per layer, nats: the first step retrieves above it; None where not calibrated.
        step_thresholds: the same for later steps, which compare with the step before; None to use
            `thresholds`.
    """

    layers: tuple[Tensor | None, ...]
    thresholds: tuple[float | None, ...]
    step_thresholds: tuple[float | None, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(layer.nbytes for layer in self.layers if layer is not None)


def core_distribution(
    query: Tensor, keys: Tensor, scaling: float, bias: Tensor | None = None
) -> Tensor:
    """How `query` looks at the core, per KV head: the mean of its query heads' softmaxes over the
    core alone, in float32.

    Args:
        query: (batch, kv_heads, group, head_dim), rotated.
        keys: (kv_heads, tokens, head_dim), rotated.
        scaling: factor of the logits.
        bias: (kv_heads, tokens) added to the logits, or None.

    Returns:
        (batch, kv_heads, tokens); zeros where the bias hides a slot.
    """
    logits = torch.matmul(query, keys.to(query.dtype).transpose(-1, -2)).float() * scaling
    if bias is not None:
        logits = logits + bias[:, None, :].float()
    return logits.softmax(-1).mean(2)


def js_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats over the last dimension, equation (15).

    Zero probabilities count as zero; an empty distribution diverges from nothing. In [0, ln 2].

    ```python
    js_divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))      # 0.6931
    ```
    """
    first, second = first.float(), second.float()
    mean = (first + second) / 2
    terms = torch.xlogy(first, first) + torch.xlogy(second, second) - 2 * torch.xlogy(mean, mean)
    return (terms.sum(-1) / 2).clamp(min=0.0)


def gate_divergence(first: Tensor, second: Tensor) -> Tensor:
    """One number per row: the divergence of each KV head, averaged over heads.

    Args:
        first: (batch, kv_heads, tokens).
        second: (batch or 1, kv_heads, tokens).

    Returns:
        (batch,) in nats.
    """
    return js_divergence(first, second).mean(-1)


def thresholds(
    settings: GateSettings, calibrated: Sequence[float | None], layer: int
) -> float | None:
    """The threshold of `layer` in nats; None where none was calibrated."""
    return calibrated[layer] if settings.epsilon == "calibrated" else settings.epsilon
