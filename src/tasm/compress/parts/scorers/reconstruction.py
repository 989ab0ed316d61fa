"""Importance for saying the context again: KVzip.

Kim et al., "KVzip", arXiv 2505.23416, equation (2).
"""

from dataclasses import dataclass

from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer
from tasm.compress.records.received import AttentionReceived


@dataclass(frozen=True)
class Reconstruction(Scorer):
    """S_i = the largest attention that token i receives from any token while the demonstrations are
    read once more behind the memory.

    Differs from the paper in:
    - Each demonstration is repeated by itself, without the paper's instruction to repeat.
    - Scores are compared inside a layer and head (uniform budget), not over all of them.
    """

    replayed = (AttentionReceived("all", "max"),)

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        mass: Tensor = evidence.replayed[self.replayed[0]].mass
        return mass
