"""js: does this query look at the core differently from what the core was built for?

TASM (arXiv 2606.11853) equation (15).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.memory.retrieval.gates.base import Look

PAPER_EPSILON = 0.002
"""TASM's own threshold in nats (section 1.4), for a layer without a calibrated one."""


@dataclass(frozen=True)
class Divergence:
    """Opens where the query's distribution over the core has moved: from the demonstrations' own
    at the first step, then from that of the step before."""

    threshold: float = PAPER_EPSILON
    is_calibrated: bool = True
    compares: bool = True

    def core_side(self, look: Look) -> Tensor | None:
        """(batch, 1), the divergence."""
        now = look.distribution()
        return None if look.before is None else gate_divergence(now, look.before)[:, None]

    def signal(self, core_side: Tensor, bank_weight: Callable[[], Tensor]) -> Tensor:
        """(batch,) nats; the bank is not read."""
        return core_side[:, 0]


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
    if second.shape != first.shape:
        second = second.expand_as(first)
    both = torch.stack((first, second))
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
