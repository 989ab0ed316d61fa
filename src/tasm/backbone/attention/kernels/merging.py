"""The exact merge of attention over several runs of keys, by their log-sum-exp."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

Part = tuple[Tensor, Tensor]
"""Output (…, rows, head_dim) and log-sum-exp (…, rows) in nats, float32, of one run."""


def merge(parts: Sequence[Part], sink: Tensor | None = None) -> Tensor:
    """Merge partial attentions; `sink` is one more logit per row that carries no value.

    ```python
    output = merge([partial_attention(query, *run, None, scaling) for run in runs])
    ```

    Shapes: each part (…, rows, head_dim) and (…, rows); sink broadcasts to (…, rows). Returns the
    merged output in the parts' dtype.
    """
    output, total = parts[0]
    if len(parts) == 1 and sink is None:
        return output
    dtype = output.dtype
    if dtype != torch.float32:
        return merge([(one.float(), sums) for one, sums in parts], sink).to(dtype)
    for number, (other, log_sum_exp) in enumerate(parts[1:], start=2):
        # exp(b) / (exp(a) + exp(b)), without either exponential
        share = (log_sum_exp - total).sigmoid()[..., None]
        output = torch.lerp(output, other, share)
        if number < len(parts) or sink is not None:
            total = torch.logaddexp(total, log_sum_exp)
    if sink is not None:
        output = output * (total - sink).sigmoid()[..., None]
    return output


def total_log_sum_exp(parts: Sequence[Part], sink: Tensor | None = None) -> Tensor:
    """Return the log-sum-exp (…, rows) over everything, the sink included."""
    total = reduce(torch.logaddexp, (log_sum_exp for _, log_sum_exp in parts))
    return total if sink is None else torch.logaddexp(total, sink)
