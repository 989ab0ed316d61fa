"""Bringing score terms to one scale, per layer and head, over the tokens that compete."""

import torch
from torch import Tensor


def masked_quantile(values: Tensor, mask: Tensor, share: float) -> Tensor:
    """Return (kv_heads, 1) the linearly interpolated quantile of `values` where `mask`; 0 where it
    is empty."""
    numbers = mask.sum(1, keepdim=True)
    ordered = values.masked_fill(~mask, float("inf")).sort(dim=1).values
    place = share * (numbers - 1).clamp(min=0)
    low = place.floor().long()
    high = torch.minimum(low + 1, (numbers - 1).clamp(min=0))
    below, above = ordered.gather(1, low), ordered.gather(1, high)
    # Not below + (above - below) * weight: where both are equal and infinite that would be no
    # number.
    weight = place - low
    value = torch.where(weight > 0, below * (1 - weight) + above * weight, below)
    return torch.where(numbers > 0, value, torch.zeros_like(value))


def to_unit(values: Tensor, mask: Tensor, clip: float = 0.99) -> Tensor:
    """Scale (kv_heads, entries) to [0, 1] over `mask`, the largest `1 - clip` of them clipped to 1.

    A head where all values are equal becomes 0. `clip` 1.0 is plain min-max.

    ```python
    >>> to_unit(torch.tensor([[0.0, 1.0, 4.0]]), torch.ones(1, 3, dtype=torch.bool), clip=1.0)
    tensor([[0.0000, 0.2500, 1.0000]])
    ```
    """
    low = values.masked_fill(~mask, float("inf")).amin(1, keepdim=True)
    low = torch.where(mask.any(1, keepdim=True), low, 0.0)
    span = masked_quantile(values, mask, clip) - low
    scaled = ((values - low) / span.clamp(min=1e-20)).clamp(0, 1)
    return torch.where(mask & (span > 0), scaled, torch.zeros_like(scaled))


def pooled(values: Tensor, valid: Tensor, window: int) -> Tensor:
    """Return the mean of (kv_heads, entries) over a window around each entry; edges use what is
    there."""
    if window <= 1:
        return values
    weight = valid.float()[:, None]
    total = torch.nn.functional.avg_pool1d(values[:, None] * weight, window, 1, window // 2)
    share = torch.nn.functional.avg_pool1d(weight, window, 1, window // 2)
    return (total / share.clamp(min=1e-9))[:, 0] * valid
