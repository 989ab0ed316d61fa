"""What `tasm ask` makes of the answers: to one question, or to a file of them, judged and shown."""

import os
import sys
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tasm.cli.frame import Result, say, to_json, warn
from tasm.cli.progress import Progress
from tasm.errors import InputError
from tasm.files import write_text

if TYPE_CHECKING:
    from tasm.answer import Model
    from tasm.demonstrations import Query
    from tasm.memory import TaskMemory

SHOWN_SHARES = 10  # of one answer
SHOWN_SHARES_A_ROW = 3  # of each of many
FIGURES = ("effect", "support", "weight", "retrieved", "attention")  # of a share, in this order


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
    return Result(document, lambda: _listing(document, queries, memory, out, top))


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


def drawn_on(
    shares: list[dict[str, Any]], memory: "TaskMemory", most: int = SHOWN_SHARES, indent: str = "  "
) -> list[str]:
    """Return a table of the demonstrations that mattered most, a line each under a line of names:
    its figures, id, question, answer and pictures."""
    if not shares:
        return []
    entries = {entry.id: entry for entry in memory.demonstrations}
    first = next(name for name in ("effect", "support", "weight") if shares[0][name] is not None)
    ranked = sorted(shares, key=lambda one: -one[first])
    columns = [name for name in FIGURES if shares[0][name] is not None]
    lines = [indent + "  ".join(f"{name:>9}" for name in columns) + "  demonstration"]
    for one in ranked[:most]:
        entry = entries.get(one["id"])
        texts = [] if entry is None else [entry.question, entry.answer]
        said = " → ".join(_one_line(text) for text in texts if text is not None)
        pictures = [] if entry is None else [picture.path for picture in entry.pictures]
        parts = [one["id"], said, *(os.path.relpath(path) for path in pictures if path)]
        figures = "  ".join(f"{_figure(name, one[name]):>9}" for name in columns)
        lines.append(f"{indent}{figures}  {'  '.join(filter(None, parts))}")
    if len(ranked) > most:
        lines.append(f"{indent}and {len(ranked) - most} more; --json lists all")
    return lines


def _figure(name: str, value: float) -> str:
    """A share in per cent; an effect in nats, signed as a support is."""
    if name == "effect":
        return f"{value:+.2f}"
    return f"{100 * value:+.1f} %" if name == "support" else f"{100 * value:.1f} %"


def label_lines(labels: list[dict[str, Any]], top: int, indent: str = "") -> list[str]:
    """Return the most probable labels, a line each: probability and label."""
    return [f"{indent}{one['probability']:.3f}  {_one_line(one['label'])}" for one in labels[:top]]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _listing(
    document: dict[str, Any],
    queries: "list[Query]",
    memory: "TaskMemory",
    out: Path | None,
    top: int = 1,
) -> str:
    """Return what people get for a file of queries: each row, or where they went; the accuracy."""
    lines: list[str] = []
    if out is None:
        lines += _rows(document["answers"], queries, memory, top)
    else:
        lines.append(f"{len(document['answers'])} answers written to {out}")
    if document["accuracy"] is not None:
        known = sum(row["correct"] is not None for row in document["answers"])
        metric = document["metric"]
        name = "Accuracy" if metric == "exact" else f"Accuracy ({metric})"
        lines.append(f"{name}: {document['accuracy']:.3f} over {known} queries")
        error = document["calibration_error"]
        if error is not None and any(row["labels"] for row in document["answers"]):
            lines.append(f"Calibration error: {error:.3f}")
    return "\n".join(lines)


def _rows(
    rows: list[dict[str, Any]], queries: "list[Query]", memory: "TaskMemory", top: int
) -> list[str]:
    """Each query: its number and question, the answer, whether it is right, what was expected."""
    lines = []
    for number, (row, query) in enumerate(zip(rows, queries, strict=True), start=1):
        lines.append(f"{number}  {row['id']}  {_one_line(query.question)}")
        expected = " or ".join(repr(_one_line(text)) for text in query.answers)
        verdict = {True: "right", False: f"wrong, expected {expected}", None: "nothing expected"}
        lines.append(f"   {_one_line(row['answer'])!r}: {verdict[row['correct']]}")
        lines += label_lines(row["labels"], top, "     ") if top > 1 else []
        lines += drawn_on(row["demonstrations"], memory, SHOWN_SHARES_A_ROW, "     ")
    return lines
