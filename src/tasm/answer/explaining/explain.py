"""The explanations of a batch of answers, in the way that was asked for.

"attention" is what was read anyway; "ablation" also asks again with each demonstration masked.
Every demonstration gets one record, with shares that sum to 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from tasm.answer.explaining.attention import Reading
from tasm.answer.explaining.masking import effects, refuse_recurrent
from tasm.answer.explaining.support import supports
from tasm.answer.result import Answer, DemonstrationWeight
from tasm.arguments import shown
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.model import Backbone
from tasm.errors import InputError, did_you_mean
from tasm.memory import DemonstrationEntry, TaskMemory

Way = Literal["attention", "ablation"]
WAYS: tuple[Way, ...] = ("attention", "ablation")
Explain = bool | Way


def way_to_explain(explain: Any, memory: TaskMemory) -> Way | None:
    """Return what an argument `explain` asks for: True is "attention", False nothing.

    ```python
    >>> way_to_explain(True, memory)
    'attention'
    ```

    Raises `InputError` for anything else, and for "ablation" where the model has recurrent layers.
    """
    if explain == "ablation":
        refuse_recurrent(memory, "explain='ablation'", "Take explain='attention'.")
    if isinstance(explain, bool):
        return "attention" if explain else None
    if explain in WAYS:
        return explain  # type: ignore[no-any-return]
    raise InputError(
        f"explain is {shown(explain)}; expected True, False, 'attention' or 'ablation'."
        + (did_you_mean(explain, WAYS) if isinstance(explain, str) else "")
    )


def explained(
    backbone: Backbone,
    memory: TaskMemory,
    answers: Sequence[Answer],
    first_logits: Tensor,
    reading: Reading,
    masked: Callable[[], MemoryCache] | None = None,
) -> list[Answer]:
    """Return the answers with what each demonstration had to do with them; with `masked`, which
    makes caches of the memory, with the effects of masking each demonstration in turn."""
    tokens = [
        one.token_ids[0] if one.token_ids else int(first_logits[row].argmax())
        for row, one in enumerate(answers)
    ]
    support = supports(backbone, reading.written, first_logits, tokens)
    found = []
    for row, one in enumerate(answers):
        changes = None
        if masked is not None:
            assert one.query is not None
            ends = len(one.log_probabilities) > len(one.token_ids)
            changes = effects(backbone, memory, one.query, one.token_ids, ends=ends, fresh=masked)
        weights = _demonstration_weights(memory.demonstrations, reading, row, support[row], changes)
        total = reading.weighted[:, row].sum().clamp_min(1e-30)
        by_token = reading.tokens[:, row] / total
        found.append(replace(one, demonstrations=weights, token_weights=by_token))
    return found


def _demonstration_weights(
    entries: Sequence[DemonstrationEntry],
    reading: Reading,
    row: int,
    support: Sequence[float] | None,
    effects: Sequence[float] | None,
) -> tuple[DemonstrationWeight, ...]:
    mass, weighted = _shares(reading.mass[:, row]), _shares(reading.weighted[:, row])
    layers = reading.layers[:, row] / reading.layers[:, row].sum().clamp_min(1e-30)
    by_layer = layers.T.tolist()
    return tuple(
        DemonstrationWeight(
            id=entry.id,
            weight=sum(weighted[number]),
            retrieved=weighted[number][1],
            attention=sum(mass[number]),
            attention_retrieved=mass[number][1],
            support=None if support is None else support[number],
            effect=None if effects is None else effects[number],
            layers=tuple(by_layer[number]),
            question=entry.question,
            answer=entry.answer,
            pictures=tuple(picture.path for picture in entry.pictures),
        )
        for number, entry in enumerate(entries)
    )


def _shares(sums: Tensor) -> list[list[float]]:
    """(core, retrieved) of each demonstration, of all that was counted."""
    pairs: list[list[float]] = (sums.double() / sums.double().sum().clamp_min(1e-30)).T.tolist()
    return pairs
