"""`tasm ask --queries --html`: every query with its pictures, what was answered, what was expected.

Wrong answers stand first, the surest of them at the top. It reads queries' pictures; it asks
nothing.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasm.demonstrations import Query
from tasm.view.html_page import render
from tasm.view.tables import Cell, Column, Row, Table
from tasm.view.thumbnails import address, thumbnails, within

if TYPE_CHECKING:
    from tasm.memory import TaskMemory

MOST_CARDS = 400
MOST_PICTURE_BYTES = 3_000_000
SHOWN_LABELS = 3


def answers_page(
    document: Mapping[str, Any], queries: Sequence[Query], memory: "TaskMemory"
) -> str:
    """Return the page of a document that `tasm ask --queries --json` prints.

    ```python
    Path("answers.html").write_text(answers_page(document, queries, memory))
    ```

    Raises `DemonstrationError` where a query's picture is gone by now.
    """
    rows = document["answers"]
    pairs = sorted(zip(rows, queries, strict=True), key=_place)
    shown = pairs[:MOST_CARDS]
    pictures = within(thumbnails([query for _, query in shown]), MOST_PICTURE_BYTES)
    addresses = {name: address(content) for name, content in pictures.items()}
    known = [row for row in rows if row["correct"] is not None]
    facts = [("queries", str(len(rows)))]
    if known:
        facts.append((f"accuracy ({document['metric']})", f"{document['accuracy']:.3f}"))
        facts.append(("wrong", str(sum(not row["correct"] for row in known))))
    if document["calibration_error"] is not None:
        facts.append(("calibration error", f"{document['calibration_error']:.3f}"))
    return render(
        "answers.html",
        title="Answers of a task memory",
        name=memory.place.name if memory.place is not None else "A task memory",
        facts=facts,
        confusions=confusion_table(
            [(query.answers[0], row["answer"]) for row, query in pairs if query.answers]
        ),
        cards=[
            (row, query, [addresses[picture.sha256] for picture in query.pictures])
            for row, query in shown
        ],
        most_labels=SHOWN_LABELS,
        left_out=len(pairs) - len(shown),
    )


def confusion_table(pairs: Sequence[tuple[str, str]]) -> Table | None:
    """Return how often each answer was given where another was expected, the most frequent first.

    ```python
    >>> confusion_table([("wren", "robin"), ("wren", "robin")]).rows[0].cells[2].text
    '2'
    ```
    """
    counts: dict[tuple[str, str], int] = {}
    for expected, said in pairs:
        if expected != said:
            counts[expected, said] = counts.get((expected, said), 0) + 1
    if not counts:
        return None
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Table(
        "Expected and answered",
        (Column("expected"), Column("answered"), Column("times", figures=True, sorted=True)),
        tuple(
            Row((Cell(expected, expected), Cell(said, said), Cell(str(times), times)))
            for (expected, said), times in ranked
        ),
        sortable=True,
    )


def _place(pair: tuple[Mapping[str, Any], Query]) -> tuple[int, float]:
    """Wrong ones first, the surest at the top; then the doubtful among the right ones."""
    row, _ = pair
    sure = row["confidence"] or 0.0
    verdict = {False: 0, None: 1, True: 2}[row["correct"]]
    return verdict, -sure if verdict == 0 else sure
