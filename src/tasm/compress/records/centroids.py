"""The record that TASM's task vector is made of: means over question and over answer tokens."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tasm.backbone.prompt.transcript import Role
from tasm.compress.records.record import Reading, Record
from tasm.compress.records.row_rules import Rows


@dataclass(frozen=True, eq=False)
class Centroids:
    """Sums over question and over answer tokens, with their numbers; (kv_heads, head_dim) for keys,
    (hidden_size,) for hidden states."""

    question: Tensor
    answer: Tensor
    questions: int
    answers: int

    @property
    def means(self) -> tuple[Tensor, Tensor]:
        """The question centroid and the answer centroid, equations (5) and (6)."""
        return self.question / max(1, self.questions), self.answer / max(1, self.answers)


@dataclass(frozen=True)
class TaskCentroids(Record):
    """Centroids of question and answer tokens: of plain keys, or of the layer's input hidden
    states.

    `question_tokens` says what a question is: its "text", or "text+image"; `answer_numbers` whose
    tokens count: those of "all" demonstrations, or of the ones whose answer has an "even" or an
    "odd" number (`AnswerNumbers`). State: `Centroids`. Source: TASM (arXiv 2606.11853) equations
    (5), (6).
    """

    of: Literal["keys", "hidden"] = "keys"
    question_tokens: Literal["text", "text+image"] = "text+image"
    answer_numbers: Literal["all", "even", "odd"] = "all"

    @property
    def needs_hidden(self) -> bool:  # type: ignore[override]
        """Only the hidden form reads hidden states."""
        return self.of == "hidden"

    def observe(self, held: Centroids | None, reading: Reading) -> Centroids:
        """Add this pass's tokens."""
        weights, numbers = reading.rows.once(self, self._weights)
        if self.of == "hidden":
            if reading.hidden is None:
                raise RuntimeError("hidden states were not recorded for this layer")
            vectors = reading.hidden.float()
        else:
            vectors = reading.plain_keys()
        sums = weights @ vectors  # (2, hidden_size) or (kv_heads, 2, head_dim)
        asked, answered = sums.select(-2, 0), sums.select(-2, 1)
        if held is None:
            return Centroids(asked, answered, *numbers)
        return Centroids(
            held.question + asked,
            held.answer + answered,
            held.questions + numbers[0],
            held.answers + numbers[1],
        )

    def _weights(self, rows: Rows) -> tuple[Tensor, tuple[int, int]]:
        """(2, n) float32, 1 where a token is of a question, of an answer; and how many are."""
        question = rows.roles == int(Role.QUESTION)
        if self.question_tokens == "text+image":
            question |= rows.roles == int(Role.IMAGE)
        answer = rows.roles == int(Role.ANSWER)
        if self.answer_numbers != "all":
            chosen = rows.answer_number % 2 == (0 if self.answer_numbers == "even" else 1)
            question, answer = question & chosen, answer & chosen
        both = torch.stack([question, answer])
        asked, answered = both.sum(1).tolist()
        return both.float(), (asked, answered)
