"""The gates: when a query looks into the bank. To add one: a class, a row of the table at the end,
its name in `GateKind`.

Know one layer's query beside the core, and beside the bank; neither caches nor what is done with
the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.arguments import GateKind
from tasm.memory.retrieval.looking import Look


@dataclass(frozen=True)
class Gate:
    """When a query looks into the bank: where its signal is above a threshold.

    The signal is made in two halves, so that a bank on the host costs an accelerator one copy a
    layer: what the core says is copied there together with the query.

    Attributes:
        threshold: nats, where none was given and none was measured.
        is_calibrated: whether building measures a reference and thresholds for it.
        compares: whether it compares with the step before, whose distribution is then kept.
    """

    threshold: float
    is_calibrated: bool = False
    compares: bool = False

    def core_side(self, look: Look) -> Tensor | None:
        """(batch, n) numbers on the query's device; None where there is nothing to compare with:
        then the first step retrieves, and no other."""
        raise NotImplementedError

    def signal(self, core_side: Tensor, bank_weight: Callable[[], Tensor]) -> Tensor:
        """(batch,) nats on the bank's device. `bank_weight()` reads the bank's keys: (batch,
        kv_heads, group), log-sum-exp of its logits; without it, the largest of the core's side."""
        return core_side.amax(1)


class Divergence(Gate):
    """js: opens where the query's distribution over the core has moved, from the demonstrations'
    own at the first step, then from that of the step before. TASM (arXiv 2606.11853) equation (15).
    """

    def core_side(self, look: Look) -> Tensor | None:
        """(batch, 1), the divergence."""
        now = look.distribution()
        return None if look.before is None else gate_divergence(now, look.before)[:, None]


class Entropy(Gate):
    """entropy: opens where the entropy of the query's distribution over the core, of the KV head
    that is least decided, is above the threshold: attention that finds nothing spreads out."""

    def core_side(self, look: Look) -> Tensor | None:
        """(batch, kv_heads), entropies."""
        shares = look.distribution()
        return -torch.xlogy(shares, shares).sum(-1)


class Missing(Gate):
    """missing: opens where, for the query head that misses most, the bank outweighs the core by
    more than the threshold in nats: at 3, where 95 % of its attention would fall on the bank.

    Of what a head gives core and bank together, the bank's share is the logistic function of the
    difference of their log-sum-exps. A head whose core or bank holds nothing is left out. Source:
    this project (docs/retrieval.md).
    """

    def core_side(self, look: Look) -> Tensor | None:
        """(batch, heads), the core's log-sum-exp by query head."""
        return look.weight().flatten(1)

    def signal(self, core_side: Tensor, bank_weight: Callable[[], Tensor]) -> Tensor:
        """(batch,) nats."""
        return (bank_weight().flatten(1) - core_side).amax(1)


GATES: dict[GateKind, Gate | None] = {
    "missing": Missing(3.0, is_calibrated=True),
    "js": Divergence(0.002, is_calibrated=True, compares=True),  # the paper's own, its section 1.4
    "entropy": Entropy(3.0),
    "always": None,
    "never": None,
}
"""By name; "always" and "never" have nothing to ask."""


def js_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats over the last dimension, equation (15); in [0, ln 2].

    Zero probabilities count as zero; an empty distribution diverges from nothing.

    ```python
    js_divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))      # 0.6931
    ```
    """
    return _summed(first, second, (0, -1)).div_(2).clamp_(min=0.0)


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


def _summed(first: Tensor, second: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Both divergences from the mean of two distributions, summed over `dims` of their stack."""
    if second.shape != first.shape:
        second = second.expand_as(first)
    both = torch.stack((first, second))
    mean = both.mean(0).clamp_(min=torch.finfo(torch.float32).tiny)
    # Ratios before logarithms: differences of near-equal entropies would lose what is small here.
    return torch.xlogy(both, both / mean).sum(dims)
