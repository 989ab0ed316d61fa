"""Is a memory whole, does it belong to this model, and how near is it to the full context?

Integrity and identity decide whether it holds; fidelity is measured and reported. Knows nothing of
how results are printed.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from tasm.answer import Answer, full_context, zero_shot_answers
from tasm.answer.ask import ask_batches, default_new_tokens
from tasm.answer.given import as_memory, as_queries
from tasm.answer.recorded import dtype_difference, model_for
from tasm.arguments import listener, share, unheard, whole_number
from tasm.backbone.ends import end_disagreement
from tasm.backbone.model import Backbone
from tasm.check.fidelity import agreement, answer_distributions, mean_js
from tasm.check.originals import originals_of
from tasm.demonstrations import Demonstration, Query, is_correct
from tasm.errors import DamageError, InputError, MismatchError
from tasm.memory import TaskMemory

Report = Callable[[str, int, int], None]


@dataclass
class Verification:
    """What `tasm.verify` found; None is what could not be measured.

    `complaint` is the sentence of what did not hold, None where all did (`holds`).

    `agreement` is the share of queries whose answer equals the full context's, `max_logit_error`
    the largest difference of a logit at the first answer token, `mean_js` (nats) the divergence
    along the full context's answer.
    """

    intact: bool
    model_matches: bool | None = None
    queries: int = 0
    queries_from: str | None = None
    agreement: float | None = None
    max_logit_error: float | None = None
    mean_js: float | None = None
    accuracy: dict[str, float | None] = field(
        default_factory=lambda: dict.fromkeys(("memory", "full", "zero_shot"))
    )
    core_bytes: int | None = None
    full_bytes: int | None = None
    complaint: str | None = None

    @property
    def holds(self) -> bool:
        """Whether everything that was checked held."""
        return self.complaint is None

    def to_json(self) -> dict[str, Any]:
        """Return the document that `tasm verify --json` prints."""
        return {name: value for name, value in vars(self).items() if name != "complaint"}


def verify(
    memory: TaskMemory | str | Path,
    model: Any = None,
    queries: Any = None,
    demonstrations: Any = None,
    *,
    min_agreement: float | None = None,
    vision_memory: str | Path | None = None,
    batch_size: int = 8,
    progress: Report | None = None,
    notice: Callable[[str], None] | None = warnings.warn,
) -> Verification:
    """Check a memory's integrity and identity, then measure its fidelity to the full context.

    ```python
    found = tasm.verify("birds.tasm", queries="queries.jsonl", min_agreement=0.95)
    assert found.holds, found.complaint
    ```

    Args:
        memory: a task memory or its folder.
        model: a `tasm.Model`, or a name or folder; None for the one the memory recorded.
        queries: what is asked, as `Model.ask_all` takes it; None for the demonstrations themselves.
        demonstrations: as `tasm.build` takes them; None for the recorded files, each used only if
            its hash agrees.
        min_agreement: the share of answers that must equal the full context's.
        vision_memory: where the vision memory is that the memory was built with; None for the
            recorded place. A `tasm.Model` keeps its own.
        batch_size: queries asked together.
        progress: called with a stage's name, steps done and steps in all.
        notice: called with sentences about what could not be measured.

    Damage, another model and too little agreement are findings, in `complaint`. Raises
    `InputError` for arguments that cannot be used and `ModelError` where there is no such model.
    """
    if min_agreement is not None:
        share(min_agreement, "min_agreement")
    whole_number(batch_size, "batch_size", least=1)
    listener(progress, "progress")
    listener(notice, "notice")
    say = notice or unheard
    asked = None if queries is None else as_queries(queries)
    try:
        memory = as_memory(memory)
        memory.check_all()
    except DamageError as error:
        return Verification(intact=False, complaint=str(error))
    found = Verification(intact=True, core_bytes=memory.core_bytes, full_bytes=memory.full_bytes)
    originals = originals_of(memory, demonstrations)
    if originals is None:
        say(
            "The original demonstrations are gone or were changed, so nothing can be compared with "
            "the full context. --demonstrations (in Python demonstrations=…) says where they are."
        )
    backbone = model_for(
        memory, model, option="--model (in Python model=…)", vision_memory=vision_memory
    ).backbone
    try:
        memory.check(backbone.identity)
    except MismatchError as error:
        found.complaint = str(error)
    found.model_matches = found.holds
    if difference := dtype_difference(backbone, memory):
        say(difference)
    if not found.holds:
        return found
    if (disagreement := end_disagreement(backbone)) is not None:
        say(disagreement)
    if asked is None and originals is not None:
        asked, found.queries_from = [one.as_query() for one in originals], "demonstrations"
    elif asked is not None:
        found.queries_from = str(queries) if isinstance(queries, str | Path) else "queries"
    if asked is None:
        say("There is nothing to ask: give queries, or the demonstrations.")
    else:
        measure_fidelity(
            found,
            backbone,
            memory,
            asked,
            originals,
            batch_size=batch_size,
            notice=say,
            progress=progress,
        )
    wanted, seen = min_agreement, found.agreement
    if wanted is not None and seen is None:
        found.complaint = (
            f"An agreement of {wanted} could not be checked: there is no full context."
        )
    elif wanted is not None and seen is not None and seen < wanted:
        found.complaint = f"Agreement is {seen:.3f}; at least {wanted} was wanted."
    return found


def measure_fidelity(
    found: Verification,
    backbone: Backbone,
    memory: TaskMemory,
    queries: Sequence[Query],
    demonstrations: Sequence[Demonstration] | None,
    *,
    batch_size: int = 8,
    notice: Callable[[str], None] = warnings.warn,
    progress: Report | None = None,
) -> None:
    """Ask memory, full context and zero-shot the same queries, and enter the figures in `found`.

    Without `demonstrations` there is no full context, and what compares with it stays None; so it
    does where they take more positions than the model was trained for, and `notice` is told.

    ```python
    found = Verification(intact=True, model_matches=True)
    measure_fidelity(found, model.backbone, memory, queries, demonstrations)
    ```
    """
    found.queries = len(queries)
    if not queries:
        return
    new_tokens = default_new_tokens(memory)
    context = None
    if demonstrations is not None:
        layout = memory.layout
        try:
            context = full_context(
                backbone,
                demonstrations,
                system=layout.system,
                max_pixels=layout.max_pixels,
                progress=progress,
            )
        except InputError as error:
            notice(f"There is no full context to compare with. {error}")

    def ask(asked: TaskMemory, what: str) -> tuple[list[Answer], list[Tensor]]:
        answers: list[Answer] = []
        logits: list[Tensor] = []
        for batch in ask_batches(
            backbone, asked, queries, batch_size=batch_size, max_new_tokens=new_tokens
        ):
            answers += batch.answers
            logits.append(batch.first_logits)
            (progress or unheard)(f"Asking the {what}", len(answers), len(queries))
        return answers, logits

    answers, logits = ask(memory, "memory")
    found.accuracy["memory"] = accuracy(answers, queries)
    if context is not None:
        full, full_logits = ask(context, "full context")
        found.accuracy["full"] = accuracy(full, queries)
        found.agreement = fmean(agreement([*map(str, answers)], [*map(str, full)]))
        found.max_logit_error = max(
            float((mine - theirs).abs().max())
            for mine, theirs in zip(logits, full_logits, strict=True)
        )
        paths = [one.token_ids for one in full]
        found.mean_js = fmean(
            mean_js(mine, theirs)
            for mine, theirs in zip(
                answer_distributions(backbone, memory, queries, paths, batch_size=batch_size),
                answer_distributions(backbone, context, queries, paths, batch_size=batch_size),
                strict=True,
            )
        )
    zero_shot = zero_shot_answers(
        backbone,
        queries,
        layout=memory.layout,
        batch_size=batch_size,
        max_new_tokens=new_tokens,
        progress=progress,
    )
    found.accuracy["zero_shot"] = accuracy(zero_shot, queries)


def accuracy(answers: Sequence[Answer], queries: Sequence[Query]) -> float | None:
    """Return the share of right answers among the queries whose answer is known, or None."""
    right = [
        is_correct(answer.text, query.answers)
        for answer, query in zip(answers, queries, strict=True)
        if query.answers
    ]
    return fmean(right) if right else None
