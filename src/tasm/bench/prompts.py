"""References that need no memory: ordinary prompts with no demonstration, or with the nearest few.

Retrieval-based in-context example selection (RICES; Yang et al. 2022, arXiv 2109.05014) puts the
demonstrations whose pictures lie nearest to the query's before it, the nearest last. Knows
nothing of memories.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from tasm.answer import Answer, ordinary_answers
from tasm.backbone.prompt.transcript import Layout
from tasm.bench.features import picture_features
from tasm.check.fidelity import prompt_distributions
from tasm.demonstrations import Demonstration, Query

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone


@dataclass(frozen=True)
class Prompt:
    """One query's prompt: the demonstrations that stand before it, and how many tokens they are."""

    query: Query
    demonstrations: tuple[Demonstration, ...] = ()
    attended_tokens: int = 0

    def ask(self, backbone: "Backbone", layout: Layout, max_new_tokens: int) -> Answer:
        """Answer greedily from the prompt alone."""
        (answer,) = ordinary_answers(
            backbone,
            self.demonstrations,
            [self.query],
            layout=layout,
            max_new_tokens=max_new_tokens,
        )
        return answer

    def distributions(self, backbone: "Backbone", layout: Layout, answer: Sequence[int]) -> Tensor:
        """Return log-probabilities along a given answer: (answer tokens + 1, vocabulary)."""
        inputs = backbone.full_inputs(self.demonstrations, self.query, layout=layout)
        return prompt_distributions(backbone, inputs, answer)


@dataclass(frozen=True)
class Prompts:
    """The prompts of all queries of an episode, and what choosing them took.

    `core_bytes` is what must be at hand to choose, `bank_bytes` what is chosen from.
    """

    prompts: tuple[Prompt, ...]
    core_bytes: int = 0
    bank_bytes: int = 0
    build_seconds: float = 0.0


def zero_shot_prompts(queries: Sequence[Query]) -> Prompts:
    """Return the prompts without any demonstration."""
    return Prompts(tuple(Prompt(query) for query in queries))


def nearest_prompts(
    backbone: "Backbone",
    demonstrations: Sequence[Demonstration],
    queries: Sequence[Query],
    *,
    lengths: Sequence[int],
    capacity: int,
    layout: Layout,
) -> Prompts:
    """Return the prompts of each query's nearest demonstrations, the nearest last.

    `lengths` are the demonstrations' tokens, `capacity` how many tokens a prompt may hold: the
    nearest are taken while they fit.

    ```python
    nearest_prompts(backbone, demonstrations, queries, lengths=lengths, capacity=400, layout=layout)
    ```
    """
    started = time.perf_counter()
    questions = [Query(item.id, item.messages[:-1]) for item in demonstrations]
    features = picture_features(backbone, questions, layout)
    build_seconds = time.perf_counter() - started
    nearness = picture_features(backbone, list(queries), layout) @ features.T
    prompts = []
    for query, near in zip(queries, nearness, strict=True):
        chosen: list[int] = []
        for index in near.argsort(descending=True).tolist():
            if sum(lengths[i] for i in chosen) + lengths[index] > capacity:
                break
            chosen.insert(0, index)
        prompts.append(
            Prompt(
                query,
                tuple(demonstrations[index] for index in chosen),
                sum(lengths[index] for index in chosen),
            )
        )
    return Prompts(
        tuple(prompts),
        core_bytes=features.nbytes,
        bank_bytes=sum(_stored_bytes(item) for item in demonstrations),
        build_seconds=build_seconds,
    )


def _stored_bytes(demonstration: Demonstration) -> int:
    """Bytes of a demonstration as it lies on disk; a picture in memory counts as its pixels."""
    pictures = 0
    for picture in demonstration.pictures:
        if picture.path is not None:
            pictures += picture.path.stat().st_size
        else:
            width, height = picture.load().size
            pictures += 3 * width * height
    text = "".join(message.text for message in demonstration.messages)
    return pictures + len(text.encode())
