"""The explanations of a batch of answers, in the way that was asked for.

"attention" is what was read anyway; "ablation" also asks again with each demonstration masked.
Knows queries and what was said.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from tasm.answer.explaining.attention import Reading
from tasm.answer.explaining.masking import effects, refuse_recurrent
from tasm.answer.explaining.shares import demonstration_weights
from tasm.answer.explaining.support import supports
from tasm.answer.generation import Generated
from tasm.answer.result import DemonstrationWeight
from tasm.arguments import shown
from tasm.backbone.attention.cache import MemoryCache
from tasm.demonstrations import Query
from tasm.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone
    from tasm.memory import TaskMemory

Way = Literal["attention", "ablation"]
WAYS: tuple[Way, ...] = ("attention", "ablation")
Explain = bool | Way


@dataclass(frozen=True, eq=False)
class Explained:
    """One answer's explanation; empty where none was wanted. As `Answer`'s fields say."""

    demonstrations: tuple[DemonstrationWeight, ...] = field(default=())
    token_weights: Tensor | None = None


def way_to_explain(explain: Any, memory: "TaskMemory") -> Way | None:
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


def explanations(
    backbone: "Backbone",
    memory: "TaskMemory",
    queries: Sequence[Query],
    said: Generated,
    reading: Reading,
    masked: Callable[[], MemoryCache] | None = None,
) -> list[Explained]:
    """Return every row's explanation; with `masked`, which makes caches of the memory, with the
    effects of masking each demonstration in turn."""
    tokens = [
        token_ids[0] if token_ids else int(said.first_logits[row].argmax())
        for row, token_ids in enumerate(said.token_ids)
    ]
    support = supports(backbone, reading.written, said.first_logits, tokens)
    found = []
    for row, query in enumerate(queries):
        changes = None
        if masked is not None:
            token_ids = said.token_ids[row]
            ends = len(said.log_probabilities[row]) > len(token_ids)
            changes = effects(backbone, memory, query, token_ids, ends=ends, fresh=masked)
        weights = demonstration_weights(memory.demonstrations, reading, row, support[row], changes)
        total = reading.weighted[:, row].sum().clamp_min(1e-30)
        found.append(Explained(weights, reading.tokens[:, row] / total))
    return found
