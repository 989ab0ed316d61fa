"""How a query looks at the core: shares of its tokens, and how much they weigh in all.

Knows one layer's tensors; neither caches nor what a gate makes of it.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tasm.backbone.attention.kernels import float32_product
from tasm.backbone.attention.segment import UNUSED, Weight


@dataclass(eq=False)
class Look:
    """One layer's query beside the core, on the query's device.

    Attributes:
        query: (batch, kv_heads, group, head_dim), rotated, each row's last live token.
        keys: (kv_heads, core tokens, head_dim), rotated.
        scaling: factor of the logits.
        bias: (kv_heads, core tokens) added to the logits, or None.
        hidden: (kv_heads, 1, core tokens) bool, the slots that the bias hides, or None.
        before: (batch or 1, kv_heads, core tokens), the distribution to compare with: the
            build's at the first step, then that of the step before; or None.
        known_weight: gives what `weight` would work out, where attention has done so already.
    """

    query: Tensor
    keys: Tensor
    scaling: float
    bias: Tensor | None = None
    hidden: Tensor | None = None
    before: Tensor | None = None
    known_weight: Weight | None = None
    _shares: Tensor | None = field(default=None, init=False)

    def distribution(self) -> Tensor:
        """(batch, kv_heads, core tokens), how the query looks at the core; worked out once."""
        if self._shares is None:
            self._shares = core_distribution(
                self.query, self.keys, self.scaling, self.bias, self.hidden
            )
        return self._shares

    def weight(self) -> Tensor:
        """(batch, kv_heads, group), log-sum-exp of the core's logits; inf where a head keeps
        nothing. No product, where attention has its own."""
        if self.known_weight is None:
            return core_weight(self.query, self.keys, self.scaling, self.bias)
        weight, hidden = self.known_weight(), self.hidden
        if hidden is None and self.bias is not None:
            hidden = hidden_slots(self.bias)
        nothing = weight <= UNUSED / 2
        if hidden is not None:  # a kernel of 16 bits holds no bias as far down as `UNUSED`
            nothing = nothing | hidden.all(-1)
        return weight.masked_fill(nothing, float("inf"))


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
    logits = _logits(query, keys, scaling, bias)
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


def _logits(query: Tensor, keys: Tensor, scaling: float, bias: Tensor | None) -> Tensor:
    """(kv_heads, batch x group, tokens) of scaled products, never rounded to 16 bits, and the bias.

    The batch is folded into the rows: the core is read once and not expanded."""
    rows = query[0] if query.shape[0] == 1 else query.transpose(0, 1).flatten(1, 2)
    columns = keys.transpose(1, 2)
    if rows.dtype != torch.float32 and rows.device.type == "cuda":
        product = float32_product(rows, columns)
        return (
            product * scaling if bias is None else torch.add(bias[:, None], product, alpha=scaling)
        )
    if rows.dtype != torch.float32:
        rows, columns = rows.float(), columns.float()
    if bias is None:
        return torch.bmm(rows * scaling, columns)
    return torch.baddbmm(bias[:, None], rows, columns, alpha=scaling)


def core_weight(query: Tensor, keys: Tensor, scaling: float, bias: Tensor | None = None) -> Tensor:
    """Log-sum-exp of the logits that `query` gives the core, by query head, in float32.

    Args:
        query: (batch, kv_heads, group, head_dim), rotated.
        keys: (kv_heads, tokens, head_dim), rotated.
        scaling: factor of the logits.
        bias: (kv_heads, tokens) added to the logits, or None.

    Returns:
        (batch, kv_heads, group) float32; inf for a head that keeps nothing, which then misses
        nothing either.
    """
    batch, kv_heads, group, _ = query.shape
    weight = _logits(query, keys, scaling, bias).logsumexp(-1)
    if bias is not None:
        weight = weight.masked_fill_(weight <= UNUSED / 2, float("inf"))
    return weight[None] if batch == 1 else weight.view(kv_heads, batch, group).transpose(0, 1)
