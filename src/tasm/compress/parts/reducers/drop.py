"""Tokens that are not kept are dropped."""

from dataclasses import dataclass

from torch import Tensor

from tasm.compress.evidence import Evidence, Reduced, Selection, take


@dataclass(frozen=True)
class Drop:
    """Keeps the chosen tokens as they are: hard pruning, as in SnapKV, H2O, EMLoC."""

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> Reduced:
        """Return the kept entries, unaltered."""
        order = selection.order
        return Reduced(
            keys=take(evidence.keys, order),
            values=take(evidence.values, order),
            counts=take(evidence.counts, order),
        )
