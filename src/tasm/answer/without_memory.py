"""What a memory is measured against: the full context, and no demonstrations at all."""

from collections.abc import Callable, Sequence

from tasm.answer.ask import answers_of
from tasm.answer.generation import generate
from tasm.answer.result import Answer
from tasm.arguments import unheard
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Layout
from tasm.demonstrations import Demonstration, Query
from tasm.memory import TaskMemory

_NEW_TOKENS = 64
BATCH_SIZE = 8


def full_context(
    backbone: Backbone,
    demonstrations: Sequence[Demonstration],
    *,
    system: str | None = None,
    max_pixels: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> TaskMemory:
    """Return all demonstrations as a context that many queries can be asked after one prefill.

    It is the memory of the recipe `full`, which drops nothing: the tests hold its logits to those
    of an ordinary prompt within rounding, on every family.

    ```python
    context = full_context(model.backbone, demonstrations)
    answers = ask_all(model.backbone, context, queries)
    ```
    """
    from tasm.compress.api import build

    return build(
        backbone,
        demonstrations,
        recipe="full",
        mode="joint",
        system=system,
        max_pixels=max_pixels,
        progress=progress,
    )


def zero_shot_answers(
    backbone: Backbone,
    queries: Sequence[Query],
    *,
    layout: Layout | None = None,
    batch_size: int = BATCH_SIZE,
    max_new_tokens: int = _NEW_TOKENS,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Answer]:
    """Answer queries without any demonstration: ordinary prompts, the ordinary cache, in batches.

    ```python
    answers = zero_shot_answers(model.backbone, queries, max_new_tokens=16)
    ```
    """
    answers: list[Answer] = []
    for start in range(0, len(queries), batch_size):
        rows = queries[start : start + batch_size]
        inputs = backbone.bare_inputs(rows, layout=layout or Layout())
        generated = generate(backbone, inputs, max_new_tokens=max_new_tokens)
        answers += answers_of(backbone, rows, inputs, generated)
        (progress or unheard)("Asking without demonstrations", len(answers), len(queries))
    return answers


def ordinary_answers(
    backbone: Backbone,
    demonstrations: Sequence[Demonstration],
    queries: Sequence[Query],
    *,
    layout: Layout | None = None,
    max_new_tokens: int = _NEW_TOKENS,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Answer]:
    """Answer each query by one prompt of all demonstrations and the query, read anew every time.

    No memory is involved: transformers' own cache, and no segment beside it.

    ```python
    answers = ordinary_answers(model.backbone, demonstrations, queries, max_new_tokens=16)
    ```
    """
    answers: list[Answer] = []
    for query in queries:
        inputs = backbone.full_inputs(demonstrations, query, layout=layout or Layout())
        generated = generate(backbone, inputs, max_new_tokens=max_new_tokens)
        answers += answers_of(backbone, [query], inputs, generated)
        (progress or unheard)("Asking by ordinary prompts", len(answers), len(queries))
    return answers
