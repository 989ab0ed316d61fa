"""`tasm ask`: one question, or a file of queries, answered from a memory."""

from json import loads as parse_json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tasm.arguments import GateKind
from tasm.cli.ask_many import Asked, Pages, ask_file
from tasm.cli.ask_one import One, ask_one
from tasm.cli.frame import Result, command
from tasm.cli.options import (
    Json,
    MemoryPath,
    MetricName,
    ModelPlace,
    Overwrite,
    RecordedVisionMemory,
    Top,
)
from tasm.errors import InputError

BankOn = Literal["auto", "device", "host"]
Calibration = Literal["none", "contextual", "demonstrations"]
Way = Literal["attention", "ablation"]
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
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="With --queries: write a page of the answers with their pictures, wrong ones "
            "first. With --explain: a page of the demonstrations with heat maps.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        MetricName | None,
        typer.Option(
            "--metric",
            help="With --queries: how answers are judged. Default: exact.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="LABELS|demonstrations",
            help="Choose among labels, each with a probability: 'wren,robin', a JSON list, or the "
            "demonstrations' own answers.",
            show_default=False,
        ),
    ] = None,
    top: Top = None,
    calibration: Annotated[
        Calibration | None,
        typer.Option(
            "--calibration",
            help="With labels: demonstrations uses the temperature that `tasm tune` found, "
            "contextual takes away what is said to a grey picture. Default: none.",
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
        Way | None,
        typer.Option(
            "--explain",
            metavar="[attention|ablation]",
            help="Say which demonstrations the answer drew on: as attention read them, the usual, "
            "or by masking each in turn.",
            show_default=False,
        ),
    ] = None,
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
    vision_memory: RecordedVisionMemory = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> Result:
    """Answer questions from a task memory, greedily.

    \b
    Examples:
      tasm ask birds.tasm --image new.png --question "Which bird is this?"
      tasm ask birds.tasm --image new.png --question "Which bird is this?" --explain ablation
      tasm ask birds.tasm --image new.png --question "Which bird is this?" --top 3
      tasm ask birds.tasm --queries queries.jsonl --out answers.jsonl --html answers.html
    """
    if labels is None and top is not None:
        labels = "demonstrations"
    settings: dict[str, Any] = {
        "gate": gate,
        "epsilon": _epsilon(epsilon),
        "bank_on": bank_on or "auto",
        "explain": explain or False,
        "max_new_tokens": max_new_tokens,
        "labels": None if labels is None else label_list(labels),
        "calibration": calibration or "none",
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
    if labels is None and calibration is not None:
        raise InputError(f"--calibration {calibration} has no effect without --labels or --top.")
    if labels is not None and max_new_tokens is not None:
        raise InputError("--max-new-tokens has no effect with labels. Leave one of them out.")
    if overwrite and out is None and html is None:
        raise InputError(
            "--overwrite has no effect without --out or --html. Leave it out, or give one of them."
        )
    if queries is not None:
        if image or stream:
            raise InputError("--image and --stream belong to --question, not to --queries.")
        return ask_file(
            Asked(
                memory,
                (model, vision_memory),
                queries,
                batch_size or BATCH_SIZE,
                metric or "exact",
                top or 1,
            ),
            Pages(out, html, overwrite),
            settings,
        )
    if out is not None:
        raise InputError("--out belongs to --queries; a single answer is printed.")
    if metric is not None:
        raise InputError("--metric belongs to --queries; a single answer is printed.")
    if html is not None and explain is None:
        raise InputError(
            "--html belongs to --queries, or to --explain; a single answer is printed. Add one of "
            "them, or leave it out."
        )
    if labels is not None and stream:
        raise InputError("--stream has no effect with labels: one is chosen whole. Leave it out.")
    if batch_size is not None:
        raise InputError("--batch-size belongs to --queries; a single question is asked alone.")
    assert question is not None
    return ask_one(
        One(memory, (model, vision_memory), question, image or [], stream, top or 1),
        Pages(None, html, overwrite),
        settings,
    )


def label_list(text: str) -> Any:
    """What `--labels` says: a list of labels, or "demonstrations"."""
    if text.strip() == "demonstrations":
        return "demonstrations"
    if not text.lstrip().startswith("["):
        return [label.strip() for label in text.split(",")]
    try:
        labels = parse_json(text)
    except ValueError:
        raise InputError(
            f"--labels {text}: expected 'wren,robin', a JSON list of strings, or 'demonstrations'."
        ) from None
    return labels


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
