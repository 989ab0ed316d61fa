"""A file of queries for `tasm ask`: asked in batches, judged, written as lines and as a page."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tasm.cli.answers import listing
from tasm.cli.files import check_beside, check_no_input, check_out_file
from tasm.cli.frame import Result, say, to_json, warn
from tasm.cli.opening import open_memory, open_model
from tasm.cli.progress import Progress
from tasm.errors import InputError
from tasm.files import write_text

if TYPE_CHECKING:
    from tasm.memory import TaskMemory


@dataclass(frozen=True)
class Asked:
    """What is asked of what, and how answers are judged and shown; `places` are those of the model
    and of its vision memory, where they are given."""

    memory: Path
    places: tuple[str | None, Path | None]
    queries: Path
    batch_size: int
    metric: str
    top: int


@dataclass(frozen=True)
class Pages:
    """Where the answers go: JSONL, a page; None for nowhere."""

    out: Path | None
    html: Path | None
    overwrite: bool

    def check(self, inputs: list[Path]) -> None:
        """Raise `InputError` for a place that cannot be written or is an input."""
        if self.out is not None:
            check_out_file(self.out, self.overwrite, inputs=inputs)
        if self.html is not None:
            check_out_file(self.html, self.overwrite, option="--html", inputs=inputs)
            if self.out is not None and self.out.absolute() == self.html.absolute():
                raise InputError(f"--out and --html are both {self.out}. Give two files.")

    def named(self) -> list[tuple[str, Path]]:
        """The places with the options that named them."""
        both = (("--out", self.out), ("--html", self.html))
        return [(option, place) for option, place in both if place is not None]


def ask_file(asked: Asked, pages: Pages, settings: dict[str, Any]) -> Result:
    """Ask a file of queries; `settings` are those of `Model.ask_all`."""
    from tasm.answer.confidence import calibration_error
    from tasm.demonstrations import read_queries
    from tasm.demonstrations.metrics import METRICS

    pages.check([asked.queries, asked.memory])
    memory = open_memory(asked.memory)
    model = asked.places[0] or memory.model_name
    if model:
        for option, place in pages.named():
            check_beside(place, Path(model), "the model's folder", option=option)
    with Progress() as progress:
        queries = read_queries(asked.queries, warn=warn, progress=progress)
    for option, place in pages.named():
        pictures = [picture.path for query in queries for picture in query.pictures]
        check_no_input(place, pictures, option=option)
    started = time.perf_counter()
    check_gate(memory, settings)
    loaded = open_model(memory, *asked.places)
    load_seconds = time.perf_counter() - started
    with Progress() as progress:
        answers = loaded.ask_all(
            memory, queries, batch_size=asked.batch_size, progress=progress, **settings
        )
    judge = METRICS[asked.metric]
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
        "metric": asked.metric,
        "calibration_error": calibration_error(
            [row["confidence"] for row in known], [row["correct"] for row in known]
        ),
    }
    if pages.out is not None:
        write_text(pages.out, "".join(to_json(row) + "\n" for row in rows))
    if pages.html is not None:
        from tasm.view.answers_page import answers_page

        write_text(pages.html, answers_page(document, queries, memory))
        say(f"Page written to {pages.html}")
    return Result(document, lambda: listing(document, queries, memory, pages.out, asked.top))


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
