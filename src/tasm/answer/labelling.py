"""Answers chosen from labels: scored, set right where wanted, ranked.

"demonstrations" divides scores by the temperature that `tasm tune` found on the memory's own
demonstrations, each left out (Guo et al., ICML 2017), so that a confidence says how often it is
right.

"contextual" takes away preferences: a model prefers some labels whatever it is shown. Contextual
calibration (Zhao et al., ICML 2021, arXiv 2102.09690) asks it the same question about nothing –
grey pictures, or the text "N/A" – and divides every label's probability by what it had there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from tasm.answer.generation import Generated
from tasm.answer.labels import LabelTokens, as_labels, score_labels
from tasm.answer.result import Label
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.model import Backbone
from tasm.demonstrations import Message, Picture, Query
from tasm.errors import InputError
from tasm.memory import TaskMemory

Calibration = Literal["none", "contextual", "demonstrations"]
_NOTHING = "N/A"
GREY = (127, 127, 127)


@dataclass(frozen=True, eq=False)
class Labelling:
    """Chooses labels for batches of queries over one memory; `fresh` makes a cache of it."""

    backbone: Backbone
    memory: TaskMemory
    labels: LabelTokens
    calibration: Calibration
    fresh: Callable[[], Any]
    _known: dict[tuple[Message, ...], Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        memory: TaskMemory,
        labels: Any,
        calibration: Calibration,
        fresh: Callable[[], Any],
    ) -> "Labelling":
        """Check and tokenise `labels`; raises what `as_labels` raises."""
        if calibration == "demonstrations":
            _temperature_of(memory)
        tokens = LabelTokens.of(backbone, as_labels(labels, memory), memory.layout)
        return cls(backbone, memory, tokens, calibration, fresh)

    @property
    def longest(self) -> int:
        """Tokens of the longest label."""
        return max(map(len, self.labels.ids))

    def choose(
        self, queries: Sequence[Query], inputs: dict[str, Tensor], cache: MemoryCache
    ) -> tuple[Generated, list[tuple[Label, ...]]]:
        """Return what was said, and every query's labels, the most probable first."""
        scored = score_labels(self.backbone, inputs, cache, self.labels)
        scores = scored.log_probabilities.double()
        if self.calibration == "contextual":
            scores = scores - self._of_nothing(queries)
        elif self.calibration == "demonstrations":
            scores = scores / _temperature_of(self.memory)
        shares = scores.softmax(-1)
        order = shares.argsort(dim=-1, descending=True, stable=True)
        ranked = [
            tuple(
                Label(
                    self.labels.texts[label],
                    float(shares[row, label]),
                    float(scored.log_probabilities[row, label]),
                )
                for label in order[row].tolist()
            )
            for row in range(len(queries))
        ]
        return scored.said(order[:, 0].tolist()), ranked

    def _of_nothing(self, queries: Sequence[Query]) -> Tensor:
        """(rows, labels): what the labels have where each question is asked about nothing."""
        asked = [without_content(query) for query in queries]
        new = list({one.messages: one for one in asked if one.messages not in self._known}.values())
        if new:
            inputs = self.backbone.query_inputs(new, layout=self.memory.layout)
            scored = score_labels(self.backbone, inputs, self.fresh(), self.labels)
            found = scored.log_probabilities.double().log_softmax(-1)
            self._known.update(zip([one.messages for one in new], found, strict=True))
        return torch.stack([self._known[one.messages] for one in asked])


def _temperature_of(memory: TaskMemory) -> float:
    temperature = (memory.recipe.get("tuned") or {}).get("temperature")
    if not isinstance(temperature, int | float) or not temperature > 0:
        raise InputError(
            "calibration 'demonstrations' needs a memory that `tasm tune` wrote, from "
            "demonstrations with few different answers; this one has no temperature. Tune it, or "
            "leave the calibration out."
        )
    return float(temperature)


def without_content(query: Query) -> Query:
    """Return the query with grey pictures of the same sizes, or without pictures the text "N/A".

    ```python
    without_content(tasm.make_query("Is this a joke?")).question        # 'N/A'
    ```
    """
    has_pictures = bool(query.pictures)
    *earlier, last = query.messages
    asked = last if has_pictures else Message(last.role, (_NOTHING,))
    messages = tuple(_grey(message) for message in (*earlier, asked))
    return Query(query.id, messages, (), query.origin)


def _grey(message: Message) -> Message:
    content = tuple(
        Picture(Image.new("RGB", part.load().size, GREY), name="a grey picture")
        if isinstance(part, Picture)
        else part
        for part in message.content
    )
    return Message(message.role, content)
