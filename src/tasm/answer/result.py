"""What an answer is: its text, what it cost and what it drew on."""

from dataclasses import dataclass, field
from math import exp
from typing import Any

from torch import Tensor

from tasm.demonstrations import Query, is_correct
from tasm.memory.showing import html_table


@dataclass(frozen=True)
class DemonstrationWeight:
    """How much one demonstration had to do with an answer.

    `weight` and `attention` are shares, those of all demonstrations sum to 1: of the attention at
    the answer's first step, with and without the length of the values attended to; `retrieved` and
    `attention_retrieved` are the parts of them that came from originals brought from the bank, the
    rest came from the core. `layers` is `weight` by layer.

    `support` says what speaks for the answer's first token, and below 0 against it; absolute values
    sum to 1. None where the model's projections cannot be followed. `effect`, where demonstrations
    were masked one by one, is by how many nats the answer's log-odds fall without this one; else
    None.

    `question`, `answer` and `pictures` (the files' recorded paths, None for a picture that came in
    memory) are what the memory recorded: None and empty where the demonstrations were left out.
    """

    id: str
    weight: float
    retrieved: float = 0.0
    attention: float = 0.0
    attention_retrieved: float = 0.0
    support: float | None = None
    effect: float | None = None
    layers: tuple[float, ...] = ()
    question: str | None = None
    answer: str | None = None
    pictures: tuple[str | None, ...] = ()

    @property
    def rank(self) -> float:
        """What tells demonstrations that matter from others best, of what is known."""
        if self.effect is not None:
            return self.effect
        return self.weight if self.support is None else self.support

    def to_json(self) -> dict[str, Any]:
        """Return the fields that `tasm ask --explain --json` prints."""
        return {**vars(self), "layers": list(self.layers), "pictures": list(self.pictures)}


@dataclass(frozen=True)
class Label:
    """One label that an answer was chosen from.

    `probability` is its share among the labels, all of them sum to 1; `log_probability` (nats) is
    how probable the whole label and the end after it are for the model, whatever else it might say.
    """

    text: str
    probability: float
    log_probability: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields that `tasm ask --labels --json` prints."""
        return {
            "label": self.text,
            "probability": self.probability,
            "log_probability": self.log_probability,
        }


@dataclass(frozen=True, repr=False)
class Answer:
    """The answer to one query; as a string it is its text.

    `tokens` holds the number of query and answer tokens, `seconds` what `prefill` (reading the
    query, to the first answer token) and `decode` (the tokens after it) took; the rows of a batch
    share one time. `triggered` is the share of (layer, step) pairs that retrieved from the bank;
    `divergence` (nats) and `retrieved_tokens` are means over layers and heads at the first step.
    `divergence` is None where no gate was asked. `demonstrations` is empty unless an explanation
    was wanted. `query` is what was asked.

    `log_probabilities` (nats) has one number for each of `token_ids`, and one more for the end
    token where there was one. `labels` are what the answer was chosen from, the most probable
    first; empty where the model answered freely. `doubt` is the share of the memory's own
    demonstrations that were answered more surely, each hidden from its own question; None for a
    memory that `tune` did not write. `token_weights` (2, transcript tokens), where an explanation
    was wanted, is what the core's and the retrieved tokens had of the demonstrations' `weight`.

    ```python
    answer = model.ask(memory, images=["x.png"], question="Which bird is this?")
    print(answer, answer.seconds["prefill"])
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
    query: Query | None = field(default=None, compare=False)
    log_probabilities: tuple[float, ...] = field(default=(), compare=False)
    labels: tuple[Label, ...] = field(default=())
    doubt: float | None = None
    token_weights: Tensor | None = field(default=None, compare=False)

    @property
    def confidence(self) -> float | None:
        """How probable this answer is: of the label among the labels, or of exactly these tokens
        for the model; None where it is not known.

        ```python
        answer = model.ask(memory, images=["x.png"], question="Which?", labels=["wren", "robin"])
        if answer.confidence < 0.8:
            print("Ask a person:", answer.labels[:2])
        ```
        """
        if self.labels:
            return self.labels[0].probability
        return exp(sum(self.log_probabilities)) if self.log_probabilities else None

    @property
    def expected(self) -> tuple[str, ...]:
        """The answers that count as right; empty where they are not known."""
        return () if self.query is None else self.query.answers

    @property
    def correct(self) -> bool | None:
        """Whether the text is an expected answer; None where none is known."""
        return is_correct(self.text, self.expected) if self.expected else None

    def nearest(self, count: int = 5) -> tuple[DemonstrationWeight, ...]:
        """Return the demonstrations that the answer drew on most: by `effect` where it is known,
        else by `support`, else by `weight`.

        ```python
        for one in model.ask(memory, question="Which?", explain=True).nearest(3):
            print(one.rank, one.weight, one.question, one.answer)
        ```
        """
        ranked = sorted(self.demonstrations, key=lambda one: -one.rank)
        return tuple(ranked[:count])

    def to_json(self) -> dict[str, Any]:
        """Return the fields that `tasm ask --json` prints; `seconds` gets its `load` there."""
        return {
            "answer": self.text,
            "confidence": self.confidence,
            "doubt": self.doubt,
            "log_probabilities": list(self.log_probabilities),
            "labels": [one.to_json() for one in self.labels],
            "triggered": self.triggered,
            "divergence": self.divergence,
            "retrieved_tokens": self.retrieved_tokens,
            "tokens": dict(self.tokens),
            "seconds": dict(self.seconds),
            "demonstrations": [one.to_json() for one in self.demonstrations],
        }

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        seconds = sum(self.seconds.values())
        facts = [f"{self.tokens.get('answer', len(self.token_ids))} tokens", f"{seconds:.2f} s"]
        if self.correct is not None:
            facts.append("right" if self.correct else f"wrong, expected {self.expected[0]!r}")
        if self.demonstrations:
            facts.append(f"drew most on {self.nearest(1)[0].id}")
        return f"<Answer {self.text!r}: {', '.join(facts)}>"

    def _repr_html_(self) -> str:
        sure = self.confidence
        rows: list[tuple[str, ...]] = [
            ("Confidence", "not known" if sure is None else f"{sure:.2f}"),
            ("Tokens", f"{self.tokens.get('query', 0)} read, {self.tokens.get('answer', 0)} said"),
            ("Time", f"{sum(self.seconds.values()):.2f} s"),
            ("Retrieved", f"{100 * self.triggered:.0f} % of layers and steps"),
        ]
        if self.expected:
            rows.append(("Expected", " · ".join(self.expected)))
            rows.append(("Right", "yes" if self.correct else "no"))
        for one in self.nearest():
            pictures = ", ".join(str(path) for path in one.pictures if path is not None)
            said = (one.question or "", one.answer or "", pictures)
            rows.append((f"{100 * one.weight:.1f} %", one.id, *said))
        return html_table(self.text or "(an empty answer)", rows)
