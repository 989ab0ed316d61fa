"""Which rows (queries) of a chunk a record looks at, by rule. Knows roles and spans, no attention.

| rule | rows |
|---|---|
| `all` | every token |
| `answers` | answer tokens |
| `predictions` | tokens whose next token is an answer token: those that say the answer |
| `answer-turns` | both of these |
| `answer-spans` | from the token before an answer through the one that ends its turn |
| `answer-starts` | the first prediction of every answer: where a new query would stand |
| `questions`, `images`, `text` | question text, image tokens, everything but image tokens |
| `last:32` | the last 32 tokens of what is read before compressing |
| `every:8` | every eighth token |
| `after:4` | every token but the first four of all |
| `spread:64` | about 64 tokens at equal distances among all that is read so far |

In a joint build `spread` means all demonstrations; of a stream's later chunks it takes ever fewer
tokens, because those of earlier chunks count.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.prompt.transcript import Role, Transcript
from tasm.errors import RecipeError, did_you_mean

_PLAIN = (
    "all", "answers", "predictions", "answer-turns", "answer-spans", "answer-starts", "questions",
    "images", "text",
)  # fmt: skip
_COUNTED = ("last", "every", "spread", "after")


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one forward pass: `roles` (n,) uint8 and `demonstration` (n,) of its tokens, the
    transcript's `answer_numbers` (demonstrations,) int64, the pass's first transcript token, and
    where the stage (all that is read before compressing) ends. In a replay the newest `chunk`
    tokens of the memory are the last of its entries."""

    roles: Tensor
    demonstration: Tensor
    answer_numbers: Tensor
    first: int
    stage_end: int
    chunk: int = 0
    _found: dict[Hashable, Any] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, read: Transcript, first: int, stage_end: int, chunk: int = 0) -> "Rows":
        """Return the rows of what is read, on the host."""
        return cls(read.roles, read.demonstration, read.answer_numbers, first, stage_end, chunk)

    def once(self, key: Hashable, find: Callable[["Rows"], Any]) -> Any:
        """Return what `find` gives, found once for every `key`: all layers read the same rows."""
        if key not in self._found:
            self._found[key] = find(self)
        return self._found[key]

    def to(self, device: torch.device) -> "Rows":
        """Return the same rows with their tensors on `device`."""
        if self.roles.device == device:
            return self
        return replace(
            self,
            roles=self.roles.to(device),
            demonstration=self.demonstration.to(device),
            answer_numbers=self.answer_numbers.to(device),
        )

    def __len__(self) -> int:
        return int(self.roles.shape[0])

    @property
    def answer_number(self) -> Tensor:
        """(n,) int64: which of the distinct answers a token's demonstration gives, -1 in the
        head."""
        numbers = self.answer_numbers[self.demonstration.long().clamp(min=0)]
        return numbers.masked_fill(self.demonstration < 0, -1)

    @cached_property
    def first_of_its_own(self) -> Tensor:
        """(n,) int64: the number of the first row of each row's demonstration."""
        return (self.demonstration[:, None] == self.demonstration).int().argmax(1)

    def select(self, rule: str) -> Tensor:
        """Return the row numbers (rows,) int64 of a rule; raises RecipeError for an unknown one."""
        found: Tensor = self.once(rule, lambda rows: rows.mask(rule).nonzero()[:, 0])
        return found

    def mask(self, rule: str) -> Tensor:
        """Return (n,) bool, the rows of a rule; raises RecipeError for an unknown one."""
        answer = self.roles == int(Role.ANSWER)
        before_answer = torch.zeros_like(answer)
        before_answer[:-1] = answer[1:]
        after_answer = torch.zeros_like(answer)
        after_answer[1:] = answer[:-1]
        numbers = torch.arange(len(self), device=self.roles.device)
        name, count = parse_rule(rule)
        masks = {
            "all": lambda: torch.ones_like(answer),
            "answers": lambda: answer,
            "predictions": lambda: before_answer,
            "answer-turns": lambda: answer | before_answer,
            "answer-spans": lambda: answer | before_answer | after_answer,
            "answer-starts": lambda: before_answer & ~answer,
            "questions": lambda: self.roles == int(Role.QUESTION),
            "images": lambda: self.roles == int(Role.IMAGE),
            "text": lambda: self.roles != int(Role.IMAGE),
            "last": lambda: numbers + self.first >= self.stage_end - count,
            "every": lambda: (numbers + self.first + 1) % count == 0,
            "after": lambda: numbers + self.first >= count,
            "spread": lambda: (numbers + self.first + 1) % -(-self.stage_end // count) == 0,
        }
        return masks[name]()


def parse_rule(rule: str) -> tuple[str, int]:
    """Return a rule's name and count (1 where it takes none).

    ```python
    >>> parse_rule("last:32")
    ('last', 32)
    ```
    """
    name, colon, count = rule.partition(":")
    if name in _PLAIN and not colon:
        return name, 1
    if name in _COUNTED and count.isdigit() and int(count) > 0:
        return name, int(count)
    choices = [*_PLAIN, *(f"{counted}:N" for counted in _COUNTED)]
    raise RecipeError(
        f"There are no rows {rule!r}.{did_you_mean(rule, choices)} Expected one of "
        f"{', '.join(choices)}."
    )
