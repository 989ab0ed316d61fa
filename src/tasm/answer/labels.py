"""Which of a few labels answers a query: every label's probability, exact and in one batch.

A label is a run of tokens and the end of the answer after them, so that "1" and "12" are told
apart. The query is read once; then each label is a row of its own over the same memory, a token a
step, as in generating. Knows tokens and caches; nothing of what a label means.
"""

import copy
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tasm.answer.generation import Generated
from tasm.arguments import shown
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.ends import answer_ends
from tasm.backbone.model import Backbone
from tasm.errors import InputError
from tasm.memory import TaskMemory

Labels = Sequence[str] | Literal["demonstrations"]
FEW = 64
"""So many different answers of demonstrations are labels; with more they are free text."""
MOST_ROWS = 128
"""Rows that are read together: queries times labels."""


def as_labels(labels: Any, memory: TaskMemory) -> tuple[str, ...]:
    """Return labels as they were given, or with "demonstrations" the memory's own answers.

    ```python
    as_labels("demonstrations", memory)     # ("wren", "robin"), each once, in order
    ```

    Raises `InputError` for no labels, an empty or a repeated one, and where the memory's
    demonstrations have too many different answers or none that it recorded.
    """
    if isinstance(labels, str) and labels == "demonstrations":
        return _own(memory)
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        raise InputError(
            f"labels is {shown(labels)}; expected a list of strings, or 'demonstrations'."
        )
    given = tuple(labels)
    for label in given:
        if not isinstance(label, str) or not label.strip():
            raise InputError(f"labels holds {shown(label)}; expected strings that are not empty.")
    stripped = [label.strip() for label in given]
    twice = next((one for one in stripped if stripped.count(one) > 1), None)
    if twice is not None:
        raise InputError(f"labels holds {shown(twice)} twice; expected each label once.")
    if not given:
        raise InputError("labels is empty; expected at least one label.")
    return tuple(stripped)


def _own(memory: TaskMemory) -> tuple[str, ...]:
    answers = [entry.answer for entry in memory.demonstrations]
    if not answers or any(answer is None for answer in answers):
        raise InputError(
            "The memory did not record its demonstrations' answers, so they cannot be the labels. "
            "List the labels (--labels 'wren,robin', in Python labels=[…])."
        )
    found = tuple(dict.fromkeys(answer.strip() for answer in answers if answer is not None))
    if len(found) > FEW:
        raise InputError(
            f"The demonstrations have {len(found)} different answers, too many to be labels "
            f"(at most {FEW}). List the labels (--labels 'wren,robin', in Python labels=[…]), or "
            "let the model answer freely."
        )
    return found


@dataclass(frozen=True, eq=False)
class LabelTokens:
    """Labels and their token ids, `ids[i]` those of `texts[i]`."""

    texts: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, backbone: Backbone, labels: Sequence[str], layout: Any) -> "LabelTokens":
        """Tokenise labels as the model would say them after a query of this layout.

        Raises `InputError` for two labels that are the same tokens.
        """
        ids = tuple(backbone.answer_tokens(label, layout=layout) for label in labels)
        for number, own in enumerate(ids):
            if own in ids[:number]:
                raise InputError(
                    f"The labels {labels[ids.index(own)]!r} and {labels[number]!r} are the same "
                    "tokens for this model, so it cannot tell them apart. Leave one out."
                )
        return cls(tuple(labels), ids)


@dataclass(frozen=True, eq=False)
class Scored:
    """What a batch of queries gives for each label.

    `log_probabilities` is (rows, labels): of the whole label and an end token after it; `steps`
    (rows, labels, tokens + 1) is what they are the sums of. `first_logits` is (rows, vocabulary).
    """

    labels: LabelTokens
    log_probabilities: Tensor
    steps: Tensor
    first_logits: Tensor
    prefill_seconds: float
    decode_seconds: float

    def said(self, chosen: Sequence[int]) -> Generated:
        """Return the chosen label of each row as if it had been generated."""
        token_ids = [self.labels.ids[label] for label in chosen]
        return Generated(
            token_ids,
            [
                tuple(self.steps[row, label, : len(ids) + 1].tolist())
                for row, (label, ids) in enumerate(zip(chosen, token_ids, strict=True))
            ],
            self.first_logits,
            self.prefill_seconds,
            self.decode_seconds,
        )


@torch.inference_mode()
def score_labels(
    backbone: Backbone,
    inputs: dict[str, Tensor],
    cache: MemoryCache,
    labels: LabelTokens,
    *,
    most_rows: int = MOST_ROWS,
) -> Scored:
    """Read queries once and score every label after each; `cache` is left with the queries read.

    ```python
    scored = score_labels(backbone, inputs, memory.cache(), labels)
    scored.log_probabilities.softmax(-1)        # (rows, labels)
    ```
    """
    started = time.perf_counter()
    first = backbone.next_logits(inputs, cache)
    first_logits = first.cpu()
    read = time.perf_counter()
    rows = first.shape[0]
    together = max(1, most_rows // rows)
    ends = [end for end in answer_ends(backbone) if end < first.shape[1]]
    steps = torch.zeros(rows, len(labels.ids), max(map(len, labels.ids)) + 1)
    for start in range(0, len(labels.ids), together):
        some = labels.ids[start : start + together]
        found = _score(backbone, inputs, copy.deepcopy(cache), first, some, ends)
        steps[:, start : start + len(some), : found.shape[2]] = found
    return Scored(
        labels, steps.sum(-1), steps, first_logits, read - started, time.perf_counter() - read
    )


def _score(
    backbone: Backbone,
    inputs: dict[str, Tensor],
    cache: MemoryCache,
    first: Tensor,
    labels: Sequence[tuple[int, ...]],
    ends: Sequence[int],
) -> Tensor:
    """Log-probabilities (rows, labels, tokens + 1) of each token and of the end after them."""
    rows, count, device = first.shape[0], len(labels), first.device
    longest = max(map(len, labels))
    # What a label that is over goes on with is read and not counted.
    ids = torch.tensor([[*label, *[label[-1]] * (longest - len(label))] for label in labels])
    lengths = torch.tensor([len(label) for label in labels], device=device)
    ids = ids.to(device)
    steps = torch.zeros(rows, count, longest + 1, device=device)
    steps[:, :, 0] = first.log_softmax(-1)[:, ids[:, 0]]
    cache.batch_repeat_interleave(count)
    mask = inputs["attention_mask"].repeat_interleave(count, 0)
    for step in range(longest):
        tokens = ids[:, step].repeat(rows)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        logits = backbone.next_logits({"input_ids": tokens, "attention_mask": mask}, cache)
        said = logits.log_softmax(-1).view(rows, count, -1)
        if ends:
            over = lengths == step + 1
            steps[:, over, step + 1] = said[:, over][:, :, list(ends)].logsumexp(-1)
        if step + 1 < longest:
            going = lengths > step + 1
            following = ids[going, step + 1].view(1, -1, 1).expand(rows, -1, 1)
            steps[:, going, step + 1] = said[:, going].gather(2, following)[:, :, 0]
    return steps.cpu()
