"""What an answer is: its text, what it cost and what it drew on."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DemonstrationWeight:
    """How much one demonstration had to do with an answer: a share, all of them sum to 1."""

    id: str
    weight: float


@dataclass(frozen=True)
class Answer:
    """The answer to one query.

    `tokens` holds the number of query and answer tokens, `seconds` what `prefill` (reading the
    query, to the first answer token) and `decode` (the tokens after it) took; the rows of a batch
    share one time. `triggered` is the share of (layer, step) pairs that retrieved from the bank;
    `divergence` (nats) and `retrieved_tokens` are means over layers and heads at the first step.
    `divergence` is None where no gate was asked. `demonstrations` is empty unless an explanation
    was wanted.

    ```python
    answer = model.ask(memory, images=["x.png"], question="Which bird is this?")
    print(answer.text, answer.seconds["prefill"])
    ```
    """

    text: str
    token_ids: tuple[int, ...]
    tokens: dict[str, int]
    seconds: dict[str, float]
    triggered: float = 0.0
    divergence: float | None = None
    retrieved_tokens: float = 0.0
    demonstrations: tuple[DemonstrationWeight, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return the fields that `tasm ask --json` prints; `seconds` gets its `load` there."""
        return {
            "answer": self.text,
            "triggered": self.triggered,
            "divergence": self.divergence,
            "retrieved_tokens": self.retrieved_tokens,
            "tokens": dict(self.tokens),
            "seconds": dict(self.seconds),
            "demonstrations": [{"id": one.id, "weight": one.weight} for one in self.demonstrations],
        }
