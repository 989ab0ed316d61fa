"""How probable one answer is where demonstrations are masked: many maskings, one memory, one batch.

Each masking is a row that reads the shared memory with a bias of its own; the answer is forced, a
token a step as in generating, so that the bank is asked as it was. Knows tokens and caches.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tasm.answer.ends import answer_ends
from tasm.answer.labels import LabelTokens, score_labels
from tasm.backbone.attention.cache import MemoryCache
from tasm.demonstrations import Query
from tasm.memory.left_out import leave_out

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone
    from tasm.memory import TaskMemory

ROWS = 64
"""Maskings that are read together."""


@torch.inference_mode()
def masked_log_probabilities(
    backbone: "Backbone",
    memory: "TaskMemory",
    query: Query,
    token_ids: Sequence[int],
    maskings: Sequence[int | Iterable[int]],
    *,
    ends: bool = True,
    fresh: Callable[[], MemoryCache] | None = None,
    rows: int = ROWS,
) -> Tensor:
    """Return, for every masking, the log-probability (nats) of an answer to a query: (maskings,).

    A masking is the number of a demonstration that is hidden, or several numbers; -1 hides none.
    `ends` counts the end after the answer as well. `fresh` makes caches of the memory.

    ```python
    whole, without_third = masked_log_probabilities(backbone, memory, query, ids, [-1, 2])
    ```

    Raises `InputError` for models with recurrent layers, whose state is of all demonstrations.
    """
    open_cache = fresh or (lambda: memory.cache(device=backbone.device, dtype=backbone.dtype))
    one = backbone.query_inputs([query], layout=memory.layout)
    found = []
    for start in range(0, len(maskings), rows):
        some = maskings[start : start + rows]
        inputs = {name: _repeated(tensor, len(some)) for name, tensor in one.items()}
        cache = leave_out(open_cache(), memory, some)
        if not token_ids:
            said = backbone.next_logits(inputs, cache).log_softmax(-1)
            over = [end for end in answer_ends(backbone) if end < said.shape[1]]
            found.append(said[:, over].logsumexp(-1).cpu())
            continue
        scored = score_labels(backbone, inputs, cache, LabelTokens(("",), (tuple(token_ids),)))
        steps = scored.steps[:, 0]
        found.append((steps if ends else steps[:, : len(token_ids)]).sum(-1))
    return torch.cat(found)


def _repeated(tensor: Tensor, rows: int) -> Tensor:
    """The inputs of one query, for so many rows of it."""
    return tensor.repeat(rows, *[1] * (tensor.ndim - 1))
