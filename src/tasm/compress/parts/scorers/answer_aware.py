"""Importance by what answers look at when a demonstration is asked again: EMLoC.

Ma et al., "EMLoC", arXiv 2505.19812, section 3.2.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tasm.backbone.prompt.transcript import Role
from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer
from tasm.compress.parts.scaling import pooled
from tasm.compress.records.received import AttentionReceived
from tasm.compress.records.record import Record


@dataclass(frozen=True)
class AnswerAware(Scorer):
    """S_i = mean over a neighbourhood of Σ_r a_ri over all answer rows r, plus 100 on answers.

    a is the softmax over the newest chunk and the row's own demonstration; the older memory is left
    out. Query heads of a KV head are summed.

    | setting | |
    |---|---|
    | `attending` | rows that look: "answers" is EMLoC's |
    | `source` | "replay": each demonstration is asked once more after the memory (EMLoC); "reading": taken from the reading itself, where an answer sees only what came before it |
    | `answer_bonus` | what answers get on top |
    | `pool` | neighbouring tokens averaged |

    Differs from the paper in:
    - Attention is computed in float32; the mean of a KV head's query heads stands for their sum,
      which orders tokens alike.
    - The window of the mean ends with the chunk, where the paper's code averages zeros in.
    - System prompt and BOS are always kept.
    """  # noqa: E501

    attending: str = "answers"
    source: Literal["replay", "reading"] = "replay"
    answer_bonus: float = 100.0
    pool: int = 5

    @property
    def _attention(self) -> AttentionReceived:
        among: Literal["everything", "chunk"] = "chunk" if self.source == "replay" else "everything"
        return AttentionReceived(self.attending, among=among)

    @property
    def records(self) -> tuple[Record, ...]:
        """Attention while reading, if that is the source."""
        return (self._attention,) if self.source == "reading" else ()

    @property
    def replayed(self) -> tuple[Record, ...]:
        """Attention while demonstrations are asked again, if that is the source."""
        return (self._attention,) if self.source == "replay" else ()

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        gathered = evidence.replayed if self.source == "replay" else evidence.records
        smooth = pooled(gathered[self._attention].mass, evidence.valid, self.pool)
        new = evidence.index >= evidence.first_new
        answers = (evidence.roles == int(Role.ANSWER)) & new
        return torch.where(answers, smooth + self.answer_bonus, smooth)
