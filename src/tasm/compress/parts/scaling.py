"""Bringing score terms to one scale, per layer and head, over the tokens that compete."""

import torch
from torch import Tensor


def to_unit(values: Tensor, mask: Tensor, clip: float = 0.99) -> Tensor:
    """Scale (kv_heads, entries) to [0, 1] over `mask`, the largest `1 - clip` of them clipped to 1.

    A head where all values are equal becomes 0. `clip` 1.0 is plain min-max.

    ```python
    >>> to_unit(torch.tensor([[0.0, 1.0, 4.0]]), torch.ones(1, 3, dtype=torch.bool), clip=1.0)
    tensor([[0.0000, 0.2500, 1.0000]])
    ```
    """
    ordered = values.masked_fill(~mask, torch.inf).sort(dim=1).values
    last = (mask.sum(1, keepdim=True) - 1).clamp_(min=0)
    place = clip * last
    low = place.long()
    below, above = ordered.gather(1, torch.cat([low, torch.minimum(low + 1, last)], 1)).split(1, 1)
    # Not below + (above - below) * weight: where both are equal and infinite that would be no
    # number.
    weight = place - low
    most = torch.where(weight > 0, below * (1 - weight) + above * weight, below)
    least = ordered[:, :1]
    span = most - least
    scaled = ((values - least) / span.clamp(min=1e-20)).clamp_(0, 1)
    return scaled.masked_fill_(~(mask & (span > 0)), 0.0)


def pooled(values: Tensor, valid: Tensor, window: int) -> Tensor:
    """Return the mean of (kv_heads, entries) over a window around each entry; edges use what is
    there."""
    if window <= 1:
        return values
    weight = valid.float()[:, None]
    total = torch.nn.functional.avg_pool1d(values[:, None] * weight, window, 1, window // 2)
    share = torch.nn.functional.avg_pool1d(weight, window, 1, window // 2)
    return (total / share.clamp(min=1e-9))[:, 0] * valid
