"""Tokens that are not kept are dropped."""

from dataclasses import dataclass

from torch import Tensor

from tasm.compress.evidence import Evidence, Selection
from tasm.compress.parts.base import Reducer
from tasm.memory.layer import LayerTokens


@dataclass(frozen=True)
class Drop(Reducer):
    """Keeps the chosen tokens as they are: hard pruning, as in SnapKV, H2O, EMLoC."""

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> LayerTokens:
        """Return the kept entries, unaltered."""
        return evidence.held.at(selection.order, selection.lengths)
