"""Queries against a memory, one or many: left-padded batches over one shared memory."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack, get_args

from torch import Tensor

from tasm.answer.confidence import doubt
from tasm.answer.explaining.attention import Reading
from tasm.answer.explaining.explain import Explain, explained, way_to_explain
from tasm.answer.generation import Generated, decode, generate
from tasm.answer.given import as_memory, as_queries
from tasm.answer.labelling import Calibration, Labelling
from tasm.answer.labels import Labels
from tasm.answer.result import Answer, Label
from tasm.arguments import GateKind, listener, nats, one_of, unheard, whole_number
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.limits import advice_while_asking, check_positions
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Role
from tasm.demonstrations import Query, warn_of_unlike_pictures
from tasm.errors import InputError
from tasm.memory import TaskMemory
from tasm.memory.left_out import HidingRetrieval, leave_out
from tasm.memory.retrieval.in_attention import Retrieval
from tasm.memory.sessions import BankOn, Epsilon

_SPARE_TOKENS = 8


class Settings(TypedDict, total=False):
    """How queries are asked.

    `gate` and `epsilon` (nats) override the memory's own; `bank_on` is as in `TaskMemory.cache`;
    `max_new_tokens` defaults to `default_new_tokens(memory)`. `explain` adds what each
    demonstration had to do with the answer: True or "attention" as it was read, "ablation" masks
    each of them in turn, too.

    With `labels` (strings, or "demonstrations" for their own answers) every answer is one of them,
    with a probability each, set right by a content-free query with `calibration="contextual"`; the
    gate is then asked for the query alone in `triggered`.
    """

    batch_size: int
    gate: GateKind | None
    epsilon: Epsilon | None
    bank_on: BankOn
    max_new_tokens: int | None
    explain: Explain
    labels: Labels | None
    calibration: Calibration


def ask_all(
    backbone: Backbone,
    memory: TaskMemory | str | Path,
    queries: Any,
    *,
    on_text: Callable[[str], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    **settings: Unpack[Settings],
) -> list[Answer]:
    """Answer queries from a memory, greedily, `batch_size` at a time; see `Settings`.

    `memory` may be a folder, `queries` a file, rows in Python, or `Query`s. The rows of a batch
    read one memory and retrieve each for itself. `on_text` receives a single query's answer piece
    by piece; `progress` is called with what is done.

    ```python
    answers = ask_all(model.backbone, memory, read_queries("queries.jsonl"), batch_size=16)
    ```

    Raises `MismatchError` where the memory was made for another model and `InputError` where query
    and answer pass the positions that the model was trained for, and for labels that cannot be.
    """
    listener(on_text, "on_text")
    listener(progress, "progress")
    memory, queries = as_memory(memory), as_queries(queries)
    if on_text is not None and len(queries) != 1:
        raise InputError(
            f"Only one query's answer can be streamed (on_text); {len(queries)} were given."
        )
    if settings.get("labels") is not None and on_text is not None:
        raise InputError(
            "on_text has no effect with labels: a label is chosen whole. Leave it out."
        )
    warn_of_unlike_pictures(backbone.name, queries, warnings.warn)
    answers: list[Answer] = []
    for batch in ask_batches(backbone, memory, queries, on_text=on_text, **settings):
        answers.extend(batch.answers)
        (progress or unheard)("Asking", len(answers), len(queries))
    return answers


@dataclass(frozen=True, eq=False)
class Batch:
    """The answers of one batch; `first_logits` (rows, vocabulary) are those of the first token."""

    answers: list[Answer]
    first_logits: Tensor


def ask_batches(
    backbone: Backbone,
    memory: TaskMemory,
    queries: Sequence[Query],
    *,
    batch_size: int = 8,
    gate: GateKind | None = None,
    epsilon: Epsilon | None = None,
    bank_on: BankOn = "auto",
    max_new_tokens: int | None = None,
    explain: Explain = False,
    labels: Labels | None = None,
    calibration: Calibration = "none",
    left_out: Sequence[int] | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Iterator[Batch]:
    """Yield the answers batch by batch, with the logits of their first tokens; as `ask_all`.

    Query i is answered without the memory's demonstration number `left_out[i]` (see `leave_out`).

    ```python
    for batch in ask_batches(model.backbone, memory, queries):
        print([answer.text for answer in batch.answers])
    ```
    """
    batch_size = whole_number(batch_size, "batch_size", least=1)
    if max_new_tokens is not None:
        max_new_tokens = whole_number(max_new_tokens, "max_new_tokens", least=1)
    if gate is not None:
        one_of(gate, "gate", get_args(GateKind))
    if epsilon is not None and epsilon != "calibrated":
        epsilon = nats(epsilon, "epsilon")
    one_of(bank_on, "bank_on", get_args(BankOn))
    one_of(calibration, "calibration", get_args(Calibration))
    way = way_to_explain(explain, memory)
    memory.check(backbone.identity)

    def fresh() -> Any:
        return memory.cache(backbone.device, backbone.dtype, gate, epsilon, bank_on)

    labelling = None
    if labels is not None:
        labelling = Labelling.of(backbone, memory, labels, calibration, fresh)
        if max_new_tokens is not None:
            raise InputError(
                f"max_new_tokens={max_new_tokens} has no effect with labels, which are as long as "
                "they are. Leave it out."
            )
        max_new_tokens = labelling.longest
    elif calibration != "none":
        raise InputError(f"calibration {calibration!r} has no effect without labels. Give labels.")
    for start in range(0, len(queries), batch_size):
        rows = queries[start : start + batch_size]
        inputs = backbone.query_inputs(rows, layout=memory.layout)
        new_tokens = _new_tokens(backbone, memory, inputs, max_new_tokens)
        cache = fresh()
        if left_out is not None:
            cache = leave_out(cache, memory, left_out[start : start + batch_size])
        reading = Reading(cache, memory.tokens.demonstration, len(rows)) if way else None
        ranked = None
        if labelling is None:
            said = generate(backbone, inputs, cache, max_new_tokens=new_tokens, on_text=on_text)
        else:
            said, ranked = labelling.choose(rows, inputs, cache)
        known = (memory.recipe.get("tuned") or {}).get("sureness") or ()
        answers = answers_of(backbone, rows, inputs, said, cache, ranked, known)
        if reading is not None:
            masked = fresh if way == "ablation" else None
            answers = explained(backbone, memory, answers, said.first_logits, reading, masked)
        yield Batch(answers, said.first_logits)


def default_new_tokens(memory: TaskMemory) -> int:
    """Return the longest answer that is waited for: twice the demonstrations' longest, plus 8.

    ```python
    default_new_tokens(memory)      # 12 where the longest demonstration answer has two tokens
    ```
    """
    tokens = memory.tokens
    owners = tokens.demonstration[(tokens.roles == int(Role.ANSWER)) & (tokens.demonstration >= 0)]
    longest = int(owners.long().bincount().max()) if len(owners) else 0
    return 2 * longest + _SPARE_TOKENS


def _new_tokens(
    backbone: Backbone, memory: TaskMemory, inputs: dict[str, Tensor], wanted: int | None
) -> int:
    """How many tokens may be generated without passing the model's positions."""
    new_tokens = default_new_tokens(memory) if wanted is None else wanted
    largest = backbone.geometry.max_positions
    if largest is None:
        return new_tokens
    taken: dict[str, int] = {
        "next_position": memory.next_position,
        "query_positions": backbone.query_positions(inputs),
        "max_positions": largest,
    }
    if wanted is None:  # nobody asked for that many: fewer will do
        left = largest - taken["next_position"] - taken["query_positions"]
        new_tokens = max(1, min(new_tokens, left))
    check_positions(new_tokens=new_tokens, **taken, advice=advice_while_asking(**taken))
    return new_tokens


def answers_of(
    backbone: Backbone,
    queries: Sequence[Query],
    inputs: dict[str, Tensor],
    generated: Generated,
    cache: MemoryCache | None = None,
    ranked: Sequence[tuple[Label, ...]] | None = None,
    known: Sequence[float] = (),
) -> list[Answer]:
    """Return what was generated as answers; `cache` tells what was retrieved, `ranked` the labels
    that each was chosen from, `known` the surenesses that a tuned memory knows."""
    read = inputs["attention_mask"].sum(1).tolist()
    # A finished row goes on with its batch; only its own steps count, the end token's included.
    steps = [len(token_ids) + 1 for token_ids in generated.token_ids]
    rows = len(steps)
    labels = ranked or [()] * rows
    triggered: Sequence[float] = [0.0] * rows
    divergence: Sequence[float | None] = [None] * rows
    retrieved: Sequence[float | None] = [None] * rows
    if cache is not None and isinstance(cache.extra, Retrieval | HidingRetrieval):
        statistics = cache.extra.statistics
        triggered = statistics.triggered(steps) or triggered
        divergence = statistics.divergence() or divergence
        retrieved = statistics.retrieved_tokens() or retrieved
    return [
        Answer(
            text=labels[row][0].text if labels[row] else decode(backbone, token_ids),
            token_ids=token_ids,
            tokens={"query": int(read[row]), "answer": len(token_ids)},
            seconds={"prefill": generated.prefill_seconds, "decode": generated.decode_seconds},
            triggered=triggered[row],
            divergence=divergence[row],
            retrieved_tokens=retrieved[row] or 0.0,
            query=queries[row],
            log_probabilities=generated.log_probabilities[row],
            labels=labels[row],
            doubt=doubt(generated.log_probabilities[row], known),
        )
        for row, token_ids in enumerate(generated.token_ids)
    ]
