"""The page that `tasm demo` writes. Knows the demo's figures; measures nothing."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasm.demonstrations import Query, is_correct
from tasm.view.heat_maps import data_uri
from tasm.view.html_page import Bar, bar_chart, escape, facts, html_table, page
from tasm.view.memory_page import heat_script, heat_style, memory_section

if TYPE_CHECKING:
    from tasm.memory import TaskMemory

QUERY_STYLE = """
.queries { display:grid; grid-template-columns:repeat(auto-fill,minmax(185px,1fr)); gap:.9rem; }
.queries img { display:block; width:100%; border-radius:6px; image-rendering:auto; }
.right { color:var(--accent); } .wrong { color:var(--wrong); }
"""
COLOURS = ("var(--rest)", "var(--core)", "var(--bank)")


def report_page(document: dict[str, Any], memory: "TaskMemory", queries: Sequence[Query]) -> str:
    """Return the demo's page; `document` is what `tasm demo --json` prints."""
    ways = document["ways"]
    core, full, agreement = (document[name] for name in ("core_bytes", "full_bytes", "agreement"))
    table = html_table(
        ("Way to ask", "Accuracy", "Core or cache, bytes", "ms to first token", "ms an answer"),
        [
            (
                way["name"],
                f"{way['accuracy']:.2f}",
                f"{way['bytes']:,}",
                f"{way['first_token_ms']:.1f}",
                f"{way['answer_ms']:.1f}",
            )
            for way in ways
        ],
        figures=(1, 2, 3, 4),
    )
    body = [
        "<h1>A task memory, from end to end</h1>",
        f'<p class="soft">{document["demonstrations"]} demonstrations teach the bundled '
        "model names of glyphs that it has never seen. They became a task memory once; every "
        "question below was then answered from it, without demonstrations, and from all of them "
        "as an ordinary prompt.</p>",
        facts(
            [
                ("accuracy, task memory", f"{ways[1]['accuracy']:.2f}"),
                ("accuracy, full context", f"{ways[2]['accuracy']:.2f}"),
                ("accuracy, no demonstrations", f"{ways[0]['accuracy']:.2f}"),
                ("core, of the full context", f"{100 * core / full:.1f} %"),
                ("answers equal to the full context's", f"{100 * agreement:.0f} %"),
            ]
        ),
        "<h2>Figures</h2>",
        table,
        '<div class="plots">',
        _chart("Accuracy", ways, "accuracy", "{:.2f}", 1.0),
        _chart("Milliseconds to the first token", ways, "first_token_ms", "{:.0f} ms", None),
        _chart("Bytes held", ways, "bytes", "{:,}", None),
        "</div>",
        "<h2>Questions</h2>",
        f'<div class="queries">{"".join(map(_query, queries, document["answers"]))}</div>',
        memory_section(memory),
        f"<footer>Recipe <code>{escape(memory.recipe['name'])}</code> · bank "
        f"{document['bank_bytes']:,} bytes, kept beside the core and read when the gate opens."
        "</footer>",
    ]
    return page(
        "A task memory, from end to end",
        "\n".join(body),
        style=heat_style(memory) + QUERY_STYLE,
        script=heat_script(memory),
    )


def _chart(
    title: str, ways: Sequence[dict[str, Any]], figure: str, form: str, largest: float | None
) -> str:
    names = ("no demos", "memory", "full context")
    bars = [
        Bar(name, ((float(way[figure]), colour),), form.format(way[figure]))
        for name, way, colour in zip(names, ways, COLOURS, strict=True)
    ]
    return bar_chart(title, bars, largest=largest)


def _query(query: Query, answers: dict[str, Any]) -> str:
    pictures = []
    for picture in query.pictures:
        buffer = io.BytesIO()
        picture.load().save(buffer, "PNG")
        pictures.append(f'<img alt="" src="{data_uri(buffer.getvalue(), "image/png")}">')
    lines = "".join(
        _answer(name, answers[field], query)
        for name, field in (("memory", "memory"), ("full", "full"), ("none", "zero_shot"))
    )
    return (
        f'<div class="card">{"".join(pictures)}<p class="answer">{escape(answers["expected"])}</p>'
        f"{lines}</div>"
    )


def _answer(name: str, text: str, query: Query) -> str:
    right = is_correct(text, query.answers)
    kind, mark = ("right", "✓") if right else ("wrong", "✗")
    return f'<p><small>{name}</small> <span class="{kind}">{mark} {escape(text)}</span></p>'
