"""The page that `tasm demo` writes. Knows the demo's figures; measures nothing."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasm.demonstrations import Query, is_correct
from tasm.view.heat_maps import data_uri
from tasm.view.html_page import render
from tasm.view.memory_page import view_of
from tasm.view.tables import Bar, BarChart, Table

if TYPE_CHECKING:
    from tasm.memory import TaskMemory

KINDS = ("rest", "core", "accent")
SHORT_NAMES = ("no demonstrations", "task memory", "full context")


@dataclass(frozen=True)
class Question:
    """One question: its pictures' addresses, the right answer, and (way, text, is it right)."""

    pictures: tuple[str, ...]
    expected: str
    answers: tuple[tuple[str, str, bool], ...]


def report_page(document: dict[str, Any], memory: "TaskMemory", queries: Sequence[Query]) -> str:
    """Return the demo's page; `document` is what `tasm demo --json` prints."""
    ways = document["ways"]
    core, full, agreement = (document[name] for name in ("core_bytes", "full_bytes", "agreement"))
    return render(
        "demo.html",
        title="A task memory, from end to end",
        demonstrations=document["demonstrations"],
        facts=[
            ("accuracy, task memory", f"{ways[1]['accuracy']:.2f}"),
            ("accuracy, full context", f"{ways[2]['accuracy']:.2f}"),
            ("accuracy, no demonstrations", f"{ways[0]['accuracy']:.2f}"),
            ("core, of the full context", f"{100 * core / full:.1f} %"),
            ("answers equal to the full context's", f"{100 * agreement:.0f} %"),
        ],
        charts=[
            _chart("Accuracy", ways, "accuracy", "{:.2f}", 1.0),
            _chart("Milliseconds to the first token", ways, "first_token_ms", "{:.0f} ms", None),
            _chart("Bytes held", ways, "bytes", "{:,}", None),
        ],
        table=_table(ways),
        questions=[
            _question(query, answers)
            for query, answers in zip(queries, document["answers"], strict=True)
        ],
        memory=view_of(memory),
        recipe=memory.recipe["name"],
        bank_bytes=f"{document['bank_bytes']:,}",
    )


def _table(ways: Sequence[dict[str, Any]]) -> Table:
    columns = (
        "way to ask",
        "accuracy",
        "core or cache, bytes",
        "ms to first token",
        "ms an answer",
    )
    rows = [
        (
            way["name"],
            f"{way['accuracy']:.2f}",
            f"{way['bytes']:,}",
            f"{way['first_token_ms']:.1f}",
            f"{way['answer_ms']:.1f}",
        )
        for way in ways
    ]
    return Table.of("Three ways to ask", columns, rows, columns[1:])


def _chart(
    title: str, ways: Sequence[dict[str, Any]], figure: str, form: str, largest: float | None
) -> BarChart:
    bars = [
        Bar(name, ((float(way[figure]), kind),), form.format(way[figure]))
        for name, way, kind in zip(SHORT_NAMES, ways, KINDS, strict=True)
    ]
    return BarChart.of(title, bars, largest)


def _question(query: Query, answers: dict[str, Any]) -> Question:
    pictures = []
    for picture in query.pictures:
        buffer = io.BytesIO()
        picture.load().save(buffer, "PNG")
        pictures.append(data_uri(buffer.getvalue(), "image/png"))
    given = (("memory", "memory"), ("full", "full"), ("none", "zero_shot"))
    return Question(
        tuple(pictures),
        answers["expected"],
        tuple(
            (name, answers[field], bool(is_correct(answers[field], query.answers)))
            for name, field in given
        ),
    )
