"""How probable one answer is where demonstrations are masked: many maskings, one memory, one batch.

Each masking is a row that reads the shared memory with a bias of its own; the answer is forced, a
token a step as in generating, so that the bank is asked as it was. Knows tokens and caches.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.ends import answer_ends
from tasm.backbone.model import Backbone
from tasm.demonstrations import Query
from tasm.errors import InputError
from tasm.memory import TaskMemory
from tasm.memory.left_out import leave_out

ROWS = 64
"""Maskings that are read together."""


def refuse_recurrent(memory: TaskMemory, what: str, way_out: str) -> None:
    """Raise `InputError` for a memory of which no demonstration can be masked: its model has
    recurrent layers. `what` is what would mask, `way_out` a sentence."""
    if "linear" in memory.geometry.layer_kinds:
        raise InputError(
            f"{what} masks demonstrations one by one, and this memory's model has recurrent "
            f"(linear attention) layers, which keep one state of all of them. {way_out}"
        )


@dataclass(frozen=True, eq=False)
class Masked:
    """What an answer is worth under each masking, (maskings,) in nats, float32.

    `log_odds` is log p − log(1 − p), summed up from what else might have been said, so that it
    tells maskings apart where p rounds to 1.
    """

    log_probabilities: Tensor
    log_odds: Tensor


@torch.inference_mode()
def masked_scores(
    backbone: Backbone,
    memory: TaskMemory,
    query: Query,
    token_ids: Sequence[int],
    maskings: Sequence[int | Iterable[int]],
    *,
    ends: bool = True,
    fresh: Callable[[], MemoryCache] | None = None,
    rows: int = ROWS,
) -> Masked:
    """Return what an answer to a query is worth under every masking.

    A masking is the number of a demonstration that is hidden, or several numbers; -1 hides none.
    `ends` counts the end after the answer as well. `fresh` makes caches of the memory.

    ```python
    whole, without_third = masked_scores(backbone, memory, query, ids, [-1, 2]).log_odds
    ```

    Raises `InputError` for models with recurrent layers, whose state is of all demonstrations.
    """
    open_cache = fresh or (lambda: memory.cache(device=backbone.device, dtype=backbone.dtype))
    one = backbone.query_inputs([query], layout=memory.layout)
    wanted: list[Sequence[int]] = [(token,) for token in token_ids]
    if ends:
        wanted.append(answer_ends(backbone))
    found = []
    for start in range(0, len(maskings), rows):
        some = maskings[start : start + rows]
        inputs = {
            name: tensor.repeat(len(some), *[1] * (tensor.ndim - 1)) for name, tensor in one.items()
        }
        found.append(_forced(backbone, inputs, leave_out(open_cache(), memory, some), wanted))
    said, other = torch.cat(found, 1)
    return Masked(said, said - other)


def _forced(
    backbone: Backbone,
    inputs: dict[str, Tensor],
    cache: MemoryCache,
    wanted: Sequence[Sequence[int]],
) -> Tensor:
    """(2, rows): the log-probability that at each step one of the `wanted` tokens is said, and
    that somewhere something else is."""
    logits = backbone.next_logits(inputs, cache)
    mask = inputs["attention_mask"]
    rows, vocabulary = logits.shape
    so_far = torch.zeros(rows, device=logits.device)
    other = torch.full_like(so_far, -torch.inf)
    for step, tokens in enumerate(wanted):
        chosen = [token for token in tokens if token < vocabulary]
        said = logits.log_softmax(-1)
        own = said[:, chosen].logsumexp(-1)
        said[:, chosen] = -torch.inf
        other = torch.logaddexp(other, so_far + said.logsumexp(-1))
        so_far = so_far + own
        if step + 1 < len(wanted):
            ids = mask.new_full((rows, 1), tokens[0])
            mask = torch.cat([mask, mask.new_ones(rows, 1)], 1)
            logits = backbone.next_logits({"input_ids": ids, "attention_mask": mask}, cache)
    return torch.stack([so_far, other]).cpu()


def effects(
    backbone: Backbone,
    memory: TaskMemory,
    query: Query,
    token_ids: Sequence[int],
    *,
    ends: bool = True,
    fresh: Callable[[], MemoryCache] | None = None,
) -> tuple[float, ...]:
    """Return for each demonstration by how many nats the answer's log-odds fall without it.

    ```python
    effects(backbone, memory, query, answer.token_ids)      # above 0: the answer needs it
    ```

    Raises what `masked_scores` raises.
    """
    count = len(memory.demonstrations)
    odds = masked_scores(
        backbone, memory, query, token_ids, [-1, *range(count)], ends=ends, fresh=fresh
    ).log_odds.tolist()
    return tuple(odds[0] - without for without in odds[1:])
