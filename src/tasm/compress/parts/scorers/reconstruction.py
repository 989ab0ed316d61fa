"""Importance for saying the context again: KVzip.

Kim et al., "KVzip", arXiv 2505.23416, equation (2).
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer
from tasm.compress.records.received import AttentionReceived


@dataclass(frozen=True)
class Reconstruction(Scorer):
    """S_i = the largest attention that token i receives from any token while the demonstrations are
    read once more behind the memory.

    | setting | |
    |---|---|
    | `among` | attention is a part of what goes to "everything", or to the "memory" alone |
    | `last_rows` | the rows of the last layer, whose output is read only where something is said |

    Differs from the paper in: each demonstration is repeated by itself, without the paper's
    instruction to repeat.
    """

    among: Literal["everything", "memory"] = "everything"
    last_rows: str = "all"

    @property
    def replayed(self) -> tuple[AttentionReceived, ...]:
        """The attention of the second reading."""
        return (AttentionReceived("all", "max", self.among, self.last_rows),)

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        mass: Tensor = evidence.replayed[self.replayed[0]].mass
        return mass
