"""Importance by what reference rows would lose: attention times how far a value is from the
output.
Knows reference rows; not budgets.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.attended import asked_of
from tasm.compress.parts.base import Scorer
from tasm.compress.records.references import Asked, References


@dataclass(frozen=True)
class Effect(Scorer):
    """S_j = (mean over reference rows i of (a_ij·‖v_j − o_i‖)^p)^(1/p).

    a are attention weights as a part of all that a row pays, o_i its attention output: dropping
    token j alone moves the output by a_ij·‖v_j − o_i‖ / (1 − a_ij).

    | setting | |
    |---|---|
    | `norm` | p; "largest" for the maximum, which keeps what any single row needs |
    | `weighs` | "effect" as above, "attention" a_ij alone |
    | `source` | rows of a "replay" or of the first "reading" |
    | `at_most` | reference rows |

    The effect is this project's (docs/experiments.md). With `norm` 2 and `weighs` "attention" it is
    the root mean square by which Attention Matching selects keys.

    Differs from the paper in: rows are those of a replay of the demonstrations, pictures included.
    """

    norm: float | Literal["largest"] = 2.0
    weighs: Literal["effect", "attention"] = "effect"
    source: Literal["replay", "reading"] = "replay"
    at_most: int = 384

    @property
    def _references(self) -> References:
        return References(at_most=self.at_most, outputs=self.weighs == "effect")

    @property
    def records(self) -> tuple[References, ...]:
        """The reference rows, if they are those of the first reading."""
        return (self._references,) if self.source == "reading" else ()

    @property
    def replayed(self) -> tuple[References, ...]:
        """The reference rows, if demonstrations are read again."""
        return (self._references,) if self.source == "replay" else ()

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        asked: Asked = asked_of(self, evidence)
        values = evidence.values.float()
        heads, group = asked.queries.shape[:2]
        total = torch.zeros(heads, evidence.entries, device=values.device)
        squares = values.pow(2).sum(-1)  # (kv_heads, entries)
        step = max(1, evidence.block // max(1, heads * group * evidence.entries))
        for first in range(0, asked.rows, step):
            some = slice(first, first + step)
            weights = asked.weights(evidence.keys, evidence.index, some).flatten(1, 2)
            if self.weighs == "effect":
                output = asked.output(evidence.keys, evidence.index, values, some).flatten(1, 2)
                far = (output @ values.transpose(1, 2)).mul_(-2)
                far += squares[:, None]
                far += output.pow(2).sum(-1, keepdim=True)
                weights *= far.clamp_(min=0).sqrt_()
                del far
            if self.norm == "largest":
                total = torch.maximum(total, weights.amax(1))
            else:
                total += weights.pow_(self.norm).sum(1)
        if self.norm == "largest":
            return total
        return (total / max(1, asked.rows * group)).pow(1 / self.norm)
