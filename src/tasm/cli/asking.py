"""What `tasm ask` makes of the answers: to one question, or to a file of them, judged and shown."""

import sys
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tasm.cli.answers import drawn_on, label_lines, listing
from tasm.cli.frame import Result, say, to_json, warn
from tasm.cli.progress import Progress
from tasm.errors import InputError
from tasm.files import write_text

if TYPE_CHECKING:
    from tasm.answer import Model
    from tasm.demonstrations import Query
    from tasm.memory import TaskMemory


def answer_one(
    model: "Model",
    memory: "TaskMemory",
    query: "Query",
    settings: dict[str, Any],
    load_seconds: float,
    *,
    html: Path | None,
    stream: bool,
    top: int,
) -> Result:
    """Ask one question; `settings` are those of `Model.ask_all`."""
    if stream:
        settings["on_text"] = _write_piece  # with --json it goes to standard error
    answer = model.ask_all(memory, [query], **settings)[0]
    document = answer.to_json()
    document["seconds"] = {"load": load_seconds, **document["seconds"]}
    if stream:
        _write_piece("\n")
    lines = [] if stream else [document["answer"]]
    if settings["labels"] is not None:
        lines = label_lines(document["labels"], top)
    if settings["explain"]:
        lines += ["", "Demonstrations that the answer drew on:"]
        lines += drawn_on(document["demonstrations"], memory)
    if html is not None:
        from tasm.view.explanation_page import explanation_page

        write_text(html, explanation_page(answer, memory))
        say(f"Page written to {html}")
    return Result(document, "\n".join(lines) if lines else None)


def _write_piece(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def answer_file(
    model: "Model",
    memory: "TaskMemory",
    queries: "list[Query]",
    settings: dict[str, Any],
    load_seconds: float,
    *,
    out: Path | None,
    html: Path | None,
    metric: str,
    top: int,
) -> Result:
    """Ask queries in batches and judge the answers; `settings` are those of `Model.ask_all`."""
    from tasm.answer.confidence import calibration_error
    from tasm.demonstrations.metrics import METRICS

    with Progress() as progress:
        answers = model.ask_all(memory, queries, progress=progress, **settings)
    judge = METRICS[metric]
    rows = []
    for query, answer in zip(queries, answers, strict=True):
        row = answer.to_json()
        row["seconds"] = {"load": load_seconds, **row["seconds"]}
        score = judge(answer.text, query.answers) if query.answers else None
        correct = None if score is None else score == 1
        rows.append({"id": query.id, **row, "correct": correct, "score": score})
    known = [row for row in rows if row["score"] is not None]
    document: dict[str, Any] = {
        "answers": rows,
        "accuracy": fmean(row["score"] for row in known) if known else None,
        "metric": metric,
        "calibration_error": calibration_error(
            [row["confidence"] for row in known], [row["correct"] for row in known]
        ),
    }
    if out is not None:
        write_text(out, "".join(to_json(row) + "\n" for row in rows))
    if html is not None:
        from tasm.view.answers_page import answers_page

        write_text(html, answers_page(document, queries, memory))
        say(f"Page written to {html}")
    return Result(document, lambda: listing(document, queries, memory, out, top))


def check_gate(memory: "TaskMemory", settings: dict[str, Any]) -> None:
    """Refuse settings of a gate that this memory does not have."""
    gate, epsilon = settings["gate"], settings["epsilon"]
    if memory.bank_counts is None:
        if gate is not None and gate != "never":
            warn(f"This memory has no bank: --gate {gate} has nothing to retrieve.")
        if settings["bank_on"] != "auto":
            raise InputError(
                f"--bank-on {settings['bank_on']} has no effect: this memory has no bank. Leave it "
                "out."
            )
        if epsilon is not None:
            raise InputError(
                f"--epsilon {epsilon} has no effect: this memory has no bank, so there is nothing "
                "to retrieve. Leave it out."
            )
    elif epsilon is not None and gate is None and memory.gate.kind in ("always", "never"):
        raise InputError(
            f"--epsilon {epsilon} has no effect: this memory's gate is {memory.gate.kind!r}, which "
            "asks no threshold. Add --gate missing, or leave --epsilon out."
        )
