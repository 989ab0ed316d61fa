"""`tasm ask`: one question, or a file of queries, answered from a memory."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tasm.cli.answers import drawn_on, listing
from tasm.cli.files import check_beside, check_no_input, check_out_file
from tasm.cli.frame import Result, command, to_json, warn
from tasm.cli.opening import open_memory, open_model
from tasm.cli.options import Json, MemoryPath, ModelPlace, Overwrite
from tasm.cli.progress import Progress
from tasm.errors import InputError
from tasm.files import write_text

if TYPE_CHECKING:
    from tasm.memory import TaskMemory

GateKind = Literal["js", "always", "never"]
BankOn = Literal["auto", "device", "host"]
BATCH_SIZE = 8


@command
def ask(
    memory: MemoryPath,
    question: Annotated[
        str | None,
        typer.Option(
            "--question",
            metavar="TEXT",
            help="The question; <image> says where an image stands.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            "--image", metavar="FILE", help="An image; give it again for more.", show_default=False
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="Many queries instead, in a demonstrations' format.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="With --queries: write the answers here, as JSONL.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            min=1,
            help=f"With --queries: asked together. Default: {BATCH_SIZE}.",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which demonstrations the answer drew on.")
    ] = False,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Print the answer as it is made; with --json, to standard error."
        ),
    ] = False,
    gate: Annotated[
        GateKind | None,
        typer.Option(
            "--gate",
            help="When to retrieve from the bank. Default: the memory's own.",
            show_default=False,
        ),
    ] = None,
    epsilon: Annotated[
        str | None,
        typer.Option(
            "--epsilon",
            metavar="FLOAT|calibrated",
            help="The gate's threshold in nats. Default: the memory's own.",
            show_default=False,
        ),
    ] = None,
    bank_on: Annotated[
        BankOn | None,
        typer.Option(
            "--bank-on",
            help="Where the bank is searched. Default: auto, on a GPU with room for it.",
            show_default=False,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-new-tokens",
            metavar="N",
            min=1,
            help="The longest answer. Default: twice the demonstrations' longest, and 8.",
            show_default=False,
        ),
    ] = None,
    model: ModelPlace = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> Result:
    """Answer questions from a task memory, greedily.

    \b
    Examples:
      tasm ask birds.tasm --image new.png --question "Which bird is this?"
      tasm ask birds.tasm --image new.png --question "Which bird is this?" --explain --json
      tasm ask birds.tasm --queries queries.jsonl --out answers.jsonl
    """
    settings: dict[str, Any] = {
        "gate": gate,
        "epsilon": _epsilon(epsilon),
        "bank_on": bank_on or "auto",
        "explain": explain,
        "max_new_tokens": max_new_tokens,
    }
    if (question is None) == (queries is None):
        raise InputError("Give either --question (with --image) or --queries FILE.")
    if epsilon is not None and gate in ("always", "never"):
        raise InputError(
            f"--epsilon {epsilon} has no effect with --gate {gate}, which asks no threshold. Leave "
            "one of them out."
        )
    if bank_on is not None and gate == "never":
        raise InputError(
            f"--bank-on {bank_on} has no effect with --gate never, which searches no bank. Leave "
            "one of them out."
        )
    if overwrite and out is None:
        raise InputError("--overwrite has no effect without --out. Leave it out, or give --out.")
    if queries is not None:
        if image or stream:
            raise InputError("--image and --stream belong to --question, not to --queries.")
        return _ask_file(memory, model, queries, out, overwrite, batch_size or BATCH_SIZE, settings)
    if out is not None:
        raise InputError("--out belongs to --queries; a single answer is printed.")
    if batch_size is not None:
        raise InputError("--batch-size belongs to --queries; a single question is asked alone.")
    assert question is not None
    return _ask_one(memory, model, question, image or [], stream, settings)


def _ask_one(
    memory_path: Path,
    model: str | None,
    question: str,
    images: list[Path],
    stream: bool,
    settings: dict[str, Any],
) -> Result:
    from tasm.demonstrations import make_query

    query = make_query(question, images=images)
    started = time.perf_counter()
    memory = open_memory(memory_path)
    _check_gate(memory, settings)
    loaded = open_model(memory, model)
    load_seconds = time.perf_counter() - started
    if stream:
        settings["on_text"] = _write_piece  # with --json it goes to standard error
    answer = loaded.ask_all(memory, [query], **settings)[0]
    document = answer.to_json()
    document["seconds"] = {"load": load_seconds, **document["seconds"]}
    if stream:
        _write_piece("\n")
    lines = [] if stream else [document["answer"]]
    if settings["explain"]:
        lines += ["", "Demonstrations that the answer drew on:"]
        lines += drawn_on(document["demonstrations"], memory)
    return Result(document, "\n".join(lines) if lines else None)


def _ask_file(
    memory_path: Path,
    model: str | None,
    queries_path: Path,
    out: Path | None,
    overwrite: bool,
    batch_size: int,
    settings: dict[str, Any],
) -> Result:
    from tasm.demonstrations import is_correct, read_queries

    if out is not None:
        check_out_file(out, overwrite, inputs=[queries_path, memory_path])
    memory = open_memory(memory_path)
    if out is not None and (model or memory.model_name):
        check_beside(out, Path(model or memory.model_name), "the model's folder")
    with Progress() as progress:
        queries = read_queries(queries_path, warn=warn, progress=progress)
    if out is not None:
        check_no_input(out, [picture.path for query in queries for picture in query.pictures])
    started = time.perf_counter()
    _check_gate(memory, settings)
    loaded = open_model(memory, model)
    load_seconds = time.perf_counter() - started
    with Progress() as progress:
        answers = loaded.ask_all(
            memory, queries, batch_size=batch_size, progress=progress, **settings
        )
    rows = []
    for query, answer in zip(queries, answers, strict=True):
        row = answer.to_json()
        row["seconds"] = {"load": load_seconds, **row["seconds"]}
        correct = is_correct(answer.text, query.answers) if query.answers else None
        rows.append({"id": query.id, **row, "correct": correct})
    known = [row["correct"] for row in rows if row["correct"] is not None]
    accuracy = sum(known) / len(known) if known else None
    if out is not None:
        write_text(out, "".join(to_json(row) + "\n" for row in rows))
    document = {"answers": rows, "accuracy": accuracy}
    return Result(document, lambda: listing(document, queries, memory, out))


def _check_gate(memory: "TaskMemory", settings: dict[str, Any]) -> None:
    gate, epsilon = settings["gate"], settings["epsilon"]
    if memory.bank_counts is None:
        if gate in ("js", "always"):
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
    elif epsilon is not None and gate is None and memory.gate.kind != "js":
        raise InputError(
            f"--epsilon {epsilon} has no effect: this memory's gate is {memory.gate.kind!r}, which "
            "asks no threshold. Add --gate js, or leave --epsilon out."
        )


def _epsilon(text: str | None) -> Any:
    if text is None or text == "calibrated":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(
            f"--epsilon {text}: expected a number of nats, zero or more, or 'calibrated'."
        )
    return value


def _write_piece(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
