"""Importance for saying the context again: KVzip.

Kim et al., "KVzip", arXiv 2505.23416, equation (2).
"""

from dataclasses import dataclass
from typing import Literal

import torch
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
    | `among` | attention is a part of what goes to "everything", or to the "memory" alone; "both": the larger of the two, each divided by what all tokens of a head have of it |
    | `last_rows` | the rows of the last layer (of "both": of the attention among the memory), whose output is read only where something is said |
    | `repeats` | "each" demonstration by itself, or the "context": all, behind an instruction to repeat |

    Differs from the paper in: of contexts over 2,000 tokens every chunk has the first one's
    instruction, a chunk ends between demonstrations, and attention is a part of what goes to
    everything, also to other chunks. With `repeats` "each" there is no instruction.
    """  # noqa: E501

    among: Literal["everything", "memory", "both"] = "everything"
    last_rows: str = "all"
    repeats: Literal["each", "context"] = "each"

    @property
    def replayed(self) -> tuple[AttentionReceived, ...]:
        """The attention of the second reading."""
        together = self.repeats == "context"
        if self.among == "both":
            inside = AttentionReceived("all", "max", "memory", self.last_rows, together)
            return (inside, AttentionReceived("all", "max", "everything", "all", together))
        return (AttentionReceived("all", "max", self.among, self.last_rows, together),)

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        found = [evidence.replayed[record].mass for record in self.replayed]
        if self.among != "both":
            mass: Tensor = found[0]
            return mass
        inside, whole = (one / one.sum(1, keepdim=True).clamp(min=1e-12) for one in found)
        return torch.maximum(inside, whole)
