"""Attention matching as published: biases that match the mass, values that match the output.

Zweiger et al., "Fast KV Compaction via Attention Matching", arXiv 2602.16284, section 3.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, Selection
from tasm.compress.parts.attended import asked_of
from tasm.compress.parts.base import Reducer
from tasm.compress.parts.reducers.fitted import ridge
from tasm.compress.records.references import Asked, References
from tasm.memory.layer import LayerTokens

_STEPS = 60
_RIDGE = 1e-4


@dataclass(frozen=True)
class AttentionMatching(Reducer):
    """Per head β = log w, w ≥ 0 minimising Σ over rows (Σ_j w_j a_ij − Σ a_i)², a over the memory;
    then values by least squares on the memory's own output, with weights w_j a_ij / Σ w a.

    Weights are held within e^−`bias_limit` … e^`bias_limit`, as in the authors' code for keys that
    were selected by attention.

    Differs from the paper in:
    - Rows are those of a replay, each demonstration by itself; no self-study questions, and queries
      are not made anew with earlier layers compacted.
    - Non-negative least squares takes a fixed number of multiplicative steps, least squares a ridge
      of 1e-4 of the mean diagonal, so that few rows give an answer, too.
    - Budgets of heads are even, where the paper optimises them once a model.
    """

    bias_limit: float = 3.0
    at_most: int = 2048

    @property
    def replayed(self) -> tuple[References, ...]:
        """The reference rows."""
        return (References(at_most=self.at_most, outputs=False),)

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> LayerTokens:
        """Return the kept entries with biases and fitted values."""
        order = selection.order
        left = evidence.held.at(order, selection.lengths)
        asked = asked_of(self, evidence)
        bias = torch.zeros(order.shape, device=order.device)
        fitted = left.values.clone()
        for head in range(evidence.kv_heads):
            kept = order[head, : int(selection.counts[head])]
            matched = self._matched(asked.head(head), evidence, head, kept)
            bias[head, : len(kept)], fitted[head, : len(kept)] = (
                matched[0],
                matched[1].to(fitted.dtype),
            )
        return replace(left, values=fitted, bias=bias)

    def _matched(
        self, mine: Asked, evidence: Evidence, head: int, kept: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(kept,) biases and (kept, head_dim) values of one head."""
        keys, index = evidence.keys[head : head + 1], evidence.index[head : head + 1]
        values = evidence.values[head].float()
        if mine.rows == 0 or len(kept) == 0:
            return torch.zeros(len(kept), device=kept.device), values[kept]
        outputs, group = [], mine.queries.shape[1]
        own = torch.empty(group, mine.rows, len(kept), device=kept.device)  # filled: never twice
        step = max(1, evidence.block // max(1, group * keys.shape[1]))
        for first in range(0, mine.rows, step):
            some = slice(first, first + step)
            weights = mine.weights(keys, index, some)
            # Shares over the memory alone, (1, group, rows, entries).
            shares = weights.div_(weights.sum(-1, keepdim=True).clamp(min=1e-12))
            outputs.append(shares @ values)
            own[:, some] = shares[0, ..., kept]
            del weights, shares
        output = torch.cat(outputs, 2).flatten(0, 2)
        del outputs
        own = own.flatten(0, 1)  # (rows, kept)
        found = matching_weights(own, self.bias_limit)
        given = own.mul_(found)
        given.div_(given.sum(1, keepdim=True).clamp(min=1e-12))
        counts = torch.tensor([len(kept)], device=kept.device)
        fitted = ridge(given[None], output[None], values[kept][None], _RIDGE, counts)
        return found.log(), fitted[0]


def matching_weights(shares: Tensor, limit: float) -> Tensor:
    """Return w (kept,) ≥ 0 near the least Σ (shares·w − 1)², `shares` (rows, kept).

    ```python
    >>> matching_weights(torch.tensor([[0.5], [0.5]]), 3.0)
    tensor([2.])
    ```
    """
    wanted = shares.sum(0)
    gram = shares.T @ shares
    found = torch.ones_like(wanted)
    low, high = torch.tensor(-limit).exp().item(), torch.tensor(limit).exp().item()
    for _ in range(_STEPS):  # multiplicative steps never leave the non-negative numbers
        found = (found * wanted / (gram @ found).clamp(min=1e-20)).clamp(low, high)
    return found
