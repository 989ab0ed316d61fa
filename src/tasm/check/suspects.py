"""Which demonstrations look mislabelled: each is asked its own question, itself masked.

The memory answers from all the others; where it finds another answer more probable than the one
that the demonstration gives, the demonstration is suspect. Later keys were made when a wrong answer
was still to be seen, and other demonstrations may be wrong too, so this says where to look, not
what is wrong. Reads memories; changes none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasm.answer.explaining.masking import refuse_recurrent
from tasm.answer.labels import FEW, LabelTokens, score_labels
from tasm.arguments import unheard
from tasm.backbone.given import as_backbone
from tasm.check.originals import originals_of
from tasm.errors import InputError
from tasm.memory import TaskMemory
from tasm.memory.left_out import leave_out

BATCH_SIZE = 16


@dataclass(frozen=True)
class Suspect:
    """How little a demonstration's own answer fits what the others teach.

    `suspicion` ranks: nats by which the best other answer is more probable than its own; without
    labels (many different answers) the nats a token of its own answer that are missing to
    certainty. `log_probability` is of its own answer, itself masked; `instead` the most probable
    answer, where that is another one, `probability` its own answer's share among the labels; None
    without labels.
    """

    id: str
    answer: str
    suspicion: float
    log_probability: float
    instead: str | None = None
    probability: float | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether another answer is more probable."""
        return self.instead is not None

    def to_json(self) -> dict[str, Any]:
        """Return the fields that `tasm show --suspects --json` prints."""
        return vars(self)


@torch.inference_mode()
def suspects(
    model: Any,
    memory: TaskMemory,
    demonstrations: Any = None,
    *,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Suspect]:
    """Return every demonstration of a memory, the most suspect first.

    `demonstrations` is where its originals are now (their pictures are asked about); without it
    they are taken from where the memory recorded them, each only if its hash agrees.

    ```python
    for one in suspects(model, tasm.load("birds.tasm"))[:5]:
        print(one.id, one.answer, "or rather", one.instead)
    ```

    Raises `InputError` where originals are gone, for fewer than two demonstrations, and for models
    with recurrent layers, whose state is of all demonstrations; `MismatchError` for another model.
    """
    backbone = as_backbone(model)
    memory.check(backbone.identity)
    refuse_recurrent(
        memory, "Looking for suspects", "Look at the answers of `tasm tune --folds 5`."
    )
    originals = originals_of(memory, demonstrations)
    if originals is None:
        raise InputError(
            "Suspects are found by asking the demonstrations' own questions, and their originals "
            "are not where the memory recorded them, or have changed. Say where they are now: "
            "--demonstrations (in Python demonstrations=…)."
        )
    if len(originals) < 2:
        raise InputError(
            f"The memory has {len(originals)} demonstration, and one is judged by the others. "
            "Give a memory of two or more."
        )
    queries = [one.as_query() for one in originals]
    answers = [one.answer.strip() for one in originals]
    distinct = tuple(dict.fromkeys(answers))
    labels = None
    if 1 < len(distinct) <= min(FEW, len(answers) - 1):
        labels = LabelTokens.of(backbone, distinct, memory.layout)
    found: list[Suspect] = []
    report = progress or unheard
    for start in range(0, len(queries), batch_size):
        rows = range(start, min(start + batch_size, len(queries)))
        some = labels or LabelTokens.of(
            backbone, tuple(dict.fromkeys(answers[row] for row in rows)), memory.layout
        )
        cache = memory.cache(device=backbone.device, dtype=backbone.dtype)
        inputs = backbone.query_inputs([queries[row] for row in rows], layout=memory.layout)
        scored = score_labels(backbone, inputs, leave_out(cache, memory, rows), some)
        for row, scores in zip(rows, scored.log_probabilities, strict=True):
            own = some.texts.index(answers[row])
            tokens = len(some.ids[own]) + 1
            found.append(_judged(originals[row].id, some, own, scores, labels is None, tokens))
        report("Asking demonstrations about themselves", len(found), len(queries))
    return sorted(found, key=lambda one: -one.suspicion)


def _judged(
    name: str, labels: LabelTokens, own: int, scores: Tensor, is_free: bool, tokens: int
) -> Suspect:
    answer, log_probability = labels.texts[own], float(scores[own])
    if is_free:
        return Suspect(name, answer, -log_probability / tokens, log_probability)
    others = scores.clone()
    others[own] = -torch.inf
    best = int(others.argmax())
    margin = float(others[best]) - log_probability
    return Suspect(
        name,
        answer,
        margin,
        log_probability,
        labels.texts[best] if margin > 0 else None,
        float(scores.double().softmax(-1)[own]),
    )
