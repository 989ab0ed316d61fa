"""The gate: does this query look at the core differently from what the core was built for?

TASM (arXiv 2606.11853) equation (15). Knows distributions, not where they come from: neither the
bank nor the cache.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from tasm.backbone.attention.segment import UNUSED
from tasm.errors import InputError, did_you_mean

GateKind = Literal["js", "always", "never"]
Asking = Literal["mean", "each"]
_KINDS: tuple[str, ...] = get_args(GateKind)
_ASKING: tuple[str, ...] = get_args(Asking)


PAPER_EPSILON = 0.002
"""TASM's own threshold in nats (section 1.4), for a layer without a calibrated one."""


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
        granularity: what a retrieved token brings with it: "token" (nothing), "neighbourhood",
            "image"; or which blocks a search brings: "page", "block", "image-mean",
            "selecting-layers" (see `tasm.memory.retrieval.key_blocks`).
        interval: an "always" gate opens at the first step and at every `interval`-th after it.
        asking: how the query heads of a KV head search: by their "mean", equation (16), or "each",
            a token counting as much as the head that wants it most; blocks of tokens come in the
            order in which any head has them.
    """

    kind: GateKind = "js"
    epsilon: float | Literal["calibrated"] = "calibrated"
    layers: tuple[int, ...] | None = None
    top_k: int = 96
    largest_share: float = 0.1
    granularity: str = "token"
    asking: Asking = "mean"
    interval: int = 1

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InputError(
                f"The gate {self.kind!r} is unknown; expected one of {', '.join(_KINDS)}."
                + did_you_mean(str(self.kind), _KINDS)
            )
        if self.asking not in _ASKING:
            raise InputError(
                f"The gate's query heads ask by {self.asking!r}; expected one of "
                f"{', '.join(_ASKING)}." + did_you_mean(str(self.asking), _ASKING)
            )
        epsilon = self.epsilon
        if epsilon != "calibrated" and not (
            isinstance(epsilon, int | float) and 0 <= epsilon < math.inf
        ):
            raise InputError(
                f"The gate's threshold is {epsilon!r}; expected nats (0 or more) or 'calibrated'."
            )
        if self.top_k < 0 or not 0 <= self.largest_share <= 1:
            raise InputError(
                f"The gate retrieves top_k={self.top_k} tokens, at most {self.largest_share} of "
                "the demonstrations'; expected 0 or more, and a share between 0 and 1."
            )

        if self.interval < 1:
            raise InputError(
                f"The gate opens every {self.interval} steps; expected 1 (every step) or more."
            )

    def tokens_to_retrieve(self, demonstration_tokens: int) -> int:
        """`top_k`, capped at the largest share of that many tokens, but one at least."""
        cap = max(1, int(self.largest_share * demonstration_tokens))
        return min(self.top_k, cap) if self.largest_share > 0 else 0


@dataclass(frozen=True, eq=False)
class GateReference:
    """What the gate learned while the memory was built.

    Attributes:
        layers: per layer (kv_heads, core tokens), how the demonstrations' own answer queries look
            at the reduced core: probabilities, each row sums to one; None for a layer not gated.
        thresholds: per layer, nats: the first step retrieves above it; None for the paper's.
        step_thresholds: the same for later steps, which compare with the step before; None, as a
            whole or for a layer, to use `thresholds`.
    """

    layers: tuple[Tensor | None, ...]
    thresholds: tuple[float | None, ...]
    step_thresholds: tuple[float | None, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", _finite(self.thresholds))
        if self.step_thresholds is not None:
            object.__setattr__(self, "step_thresholds", _finite(self.step_thresholds))

    def threshold(self, layer: int, is_first: bool) -> float:
        """The calibrated threshold of a layer in nats, or the paper's where there is none."""
        threshold = self.thresholds[layer]
        if not is_first and self.step_thresholds is not None:
            later = self.step_thresholds[layer]
            threshold = threshold if later is None else later
        return PAPER_EPSILON if threshold is None else threshold

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(layer.nbytes for layer in self.layers if layer is not None)


NEVER = 1e6
"""Nats that no divergence reaches: an infinite threshold is kept as this, which a file holds."""


def _finite(thresholds: tuple[float | None, ...]) -> tuple[float | None, ...]:
    """The same thresholds, infinite ones as `NEVER`; raises InputError for NaN."""
    for number, one in enumerate(thresholds):
        if one is not None and math.isnan(one):
            raise InputError(
                f"The threshold of layer {number} is {one}; expected a number of nats, or None for "
                "the paper's."
            )
    return tuple(None if one is None else min(float(one), NEVER) for one in thresholds)


def core_distribution(
    query: Tensor,
    keys: Tensor,
    scaling: float,
    bias: Tensor | None = None,
    hidden: Tensor | None = None,
) -> Tensor:
    """How `query` looks at the core, per KV head: the mean of its query heads' softmaxes over the
    core alone, computed in float32.

    Args:
        query: (batch, kv_heads, group, head_dim), rotated.
        keys: (kv_heads, tokens, head_dim), rotated.
        scaling: factor of the logits.
        bias: (kv_heads, tokens) added to the logits, or None.
        hidden: (kv_heads, 1, tokens) bool, the slots that the bias hides; found where not given.

    Returns:
        (batch, kv_heads, tokens) float32; zeros where the bias hides a slot, so a head that keeps
        nothing sums to zero and any other to one.
    """
    batch, kv_heads, group, _ = query.shape
    # The batch folded into the rows: the core is read once and not expanded.
    rows = query[0] if batch == 1 else query.transpose(0, 1).flatten(1, 2)
    logits = _float32_product(rows, keys.transpose(1, 2), scaling, bias)
    # Its own softmax: an operation fewer than from attention's log-sum-exp, and as exact.
    shares = logits.softmax(-1)
    if bias is not None:
        shares = shares.masked_fill_(hidden_slots(bias) if hidden is None else hidden, 0.0)
    if batch == 1:
        return shares.mean(1)[None]
    return shares.view(kv_heads, batch, group, -1).mean(2).transpose(0, 1)


def hidden_slots(bias: Tensor) -> Tensor:
    """(kv_heads, 1, tokens) bool of a bias (kv_heads, tokens): the slots that hold nothing."""
    return bias[:, None] <= UNUSED / 2


def _float32_product(rows: Tensor, columns: Tensor, scaling: float, bias: Tensor | None) -> Tensor:
    """(kv_heads, rows, tokens) of scaled products, never rounded to 16 bits, and the bias."""
    if rows.dtype != torch.float32 and rows.device.type == "cuda":
        product = torch.bmm(rows, columns, out_dtype=torch.float32)
        return (
            product * scaling if bias is None else torch.add(bias[:, None], product, alpha=scaling)
        )
    if rows.dtype != torch.float32:
        rows, columns = rows.float(), columns.float()
    if bias is None:
        return torch.bmm(rows * scaling, columns)
    return torch.baddbmm(bias[:, None], rows, columns, alpha=scaling)


def js_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats over the last dimension, equation (15); in [0, ln 2].

    Zero probabilities count as zero; an empty distribution diverges from nothing.

    ```python
    js_divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))      # 0.6931
    ```
    """
    return _summed(first, second, (0, -1)).div_(2).clamp_(min=0.0)


def _summed(first: Tensor, second: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Both divergences from the mean of two distributions, summed over `dims` of their stack."""
    both = torch.stack((first, second.expand_as(first)))
    mean = both.mean(0).clamp_(min=torch.finfo(torch.float32).tiny)
    # Ratios before logarithms: differences of near-equal entropies would lose what is small here.
    return torch.xlogy(both, both / mean).sum(dims)


def gate_divergence(first: Tensor, second: Tensor) -> Tensor:
    """One number per row: the divergence of each KV head, averaged over heads.

    ```python
    moved = gate_divergence(core_distribution(query, keys, scaling), reference[None])
    ```

    Args:
        first: (batch, kv_heads, tokens).
        second: (batch or 1, kv_heads, tokens).

    Returns:
        (batch,) in nats.
    """
    return _summed(first, second, (0, -2, -1)).div_(2 * first.shape[1]).clamp_(min=0.0)
