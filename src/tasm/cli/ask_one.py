"""One question for `tasm ask`: asked alone, shown with what it drew on, written as a page."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasm.cli.answers import drawn_on, label_lines
from tasm.cli.ask_many import Pages, check_gate
from tasm.cli.files import check_beside, check_no_input
from tasm.cli.frame import Result, say
from tasm.cli.opening import open_memory, open_model
from tasm.files import write_text


@dataclass(frozen=True)
class One:
    """What is asked of what, and how it is shown; `places` are those of the model and of its vision
    memory, where they are given."""

    memory: Path
    places: tuple[str | None, Path | None]
    question: str
    images: list[Path]
    stream: bool
    top: int


def ask_one(asked: One, pages: Pages, settings: dict[str, Any]) -> Result:
    """Ask one question; `settings` are those of `Model.ask_all`."""
    from tasm.demonstrations import make_query

    pages.check([asked.memory])
    query = make_query(asked.question, images=asked.images)
    started = time.perf_counter()
    memory = open_memory(asked.memory)
    if pages.html is not None:
        check_no_input(pages.html, asked.images, option="--html")
        if model := asked.places[0] or memory.model_name:
            check_beside(pages.html, Path(model), "the model's folder", option="--html")
    check_gate(memory, settings)
    loaded = open_model(memory, *asked.places)
    load_seconds = time.perf_counter() - started
    if asked.stream:
        settings["on_text"] = _write_piece  # with --json it goes to standard error
    answer = loaded.ask_all(memory, [query], **settings)[0]
    document = answer.to_json()
    document["seconds"] = {"load": load_seconds, **document["seconds"]}
    if asked.stream:
        _write_piece("\n")
    lines = [] if asked.stream else [document["answer"]]
    if settings["labels"] is not None:
        lines = label_lines(document["labels"], asked.top)
    if settings["explain"]:
        lines += ["", "Demonstrations that the answer drew on:"]
        lines += drawn_on(document["demonstrations"], memory)
    if pages.html is not None:
        from tasm.view.explanation_page import explanation_page

        write_text(pages.html, explanation_page(answer, memory))
        say(f"Page written to {pages.html}")
    return Result(document, "\n".join(lines) if lines else None)


def _write_piece(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
