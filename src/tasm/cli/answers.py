"""How `tasm ask` shows answers to people: what each drew on, what was expected of it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasm.demonstrations import Query
    from tasm.memory import TaskMemory

SHOWN_SHARES = 10  # of one answer
SHOWN_SHARES_A_ROW = 3  # of each of many
FIGURES = ("effect", "support", "weight", "retrieved", "attention")  # of a share, in this order


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


def listing(
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
