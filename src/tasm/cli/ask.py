"""`tasm ask`: one question, or a file of queries, answered from a memory."""

import time
from json import loads as parse_json
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Option

from tasm.arguments import GateKind, nats
from tasm.cli import options
from tasm.cli.asking import answer_file, answer_one, check_gate
from tasm.cli.building import read_files
from tasm.cli.files import check_beside, check_no_input, check_out_file
from tasm.cli.frame import Result, command
from tasm.cli.opening import check_there, open_memory, open_model, read_asked
from tasm.cli.options import count, file
from tasm.errors import InputError

BankOn = Literal["auto", "device", "host"]
Calibration = Literal["none", "contextual", "demonstrations"]
Way = Literal["attention", "ablation"]
BATCH_SIZE = 8


@command
def ask(
    memory: options.MemoryPath,
    question: Annotated[
        str | None, Option(metavar="TEXT", help="The question; <image> says where an image stands.")
    ] = None,
    image: Annotated[list[Path] | None, file(help="An image; give it again for more.")] = None,
    queries: Annotated[
        Path | None, file(help="Many queries instead, in a demonstrations' format.")
    ] = None,
    out: Annotated[
        Path | None, file(help="With --queries: write the answers here, as JSONL.")
    ] = None,
    html: Annotated[
        Path | None,
        file(
            help="With --queries: write a page of the answers with their pictures, wrong ones "
            "first. With --explain: a page of the demonstrations with heat maps."
        ),
    ] = None,
    metric: Annotated[
        options.MetricName | None,
        Option(help="With --queries: how answers are judged. Default: exact."),
    ] = None,
    labels: Annotated[
        str | None,
        Option(
            metavar="LABELS|demonstrations",
            help="Choose among labels, each with a probability: 'wren,robin', a JSON list, or the "
            "demonstrations' own answers.",
        ),
    ] = None,
    top: options.Top = None,
    calibration: Annotated[
        Calibration | None,
        Option(
            help="With labels: demonstrations uses the temperature that `tasm tune` found, "
            "contextual takes away what is said to a grey picture. Default: none."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, count(help=f"With --queries: asked together. Default: {BATCH_SIZE}.")
    ] = None,
    explain: Annotated[
        Way | None,
        Option(
            metavar="[attention|ablation]",
            help="Say which demonstrations the answer drew on: as attention read them, the usual, "
            "or by masking each in turn.",
        ),
    ] = None,
    stream: Annotated[
        bool,
        Option("--stream", help="Print the answer as it is made; with --json, to standard error."),
    ] = False,
    gate: Annotated[
        GateKind | None, Option(help="When to retrieve from the bank. Default: the memory's own.")
    ] = None,
    epsilon: Annotated[
        str | None,
        Option(
            metavar="FLOAT|calibrated",
            help="The gate's threshold in nats. Default: the memory's own.",
        ),
    ] = None,
    bank_on: Annotated[
        BankOn | None,
        Option(help="Where the bank is searched. Default: auto, on a GPU with room for it."),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        count(help="The longest answer. Default: twice the demonstrations' longest, and 8."),
    ] = None,
    model: options.ModelPlace = None,
    vision_memory: options.RecordedVisionMemory = None,
    overwrite: options.Overwrite = False,
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
    if queries is None:
        for name, given in (("--out", out), ("--metric", metric)):
            if given is not None:
                raise InputError(f"{name} belongs to --queries; a single answer is printed.")
        if html is not None and explain is None:
            raise InputError(
                "--html belongs to --queries, or to --explain; a single answer is printed. Add one "
                "of them, or leave it out."
            )
        if labels is not None and stream:
            raise InputError(
                "--stream has no effect with labels: one is chosen whole. Leave it out."
            )
        if batch_size is not None:
            raise InputError("--batch-size belongs to --queries; a single question is asked alone.")
    elif image or stream:
        raise InputError("--image and --stream belong to --question, not to --queries.")
    if out is not None and html is not None and out.absolute() == html.absolute():
        raise InputError(f"--out and --html are both {out}. Give two files.")
    pages = [(name, place) for name, place in (("--out", out), ("--html", html)) if place]
    for name, place in pages:
        check_out_file(place, overwrite, option=name, inputs=[queries, memory])
    check_there(memory)

    from tasm.demonstrations import make_query

    if queries is None:
        assert question is not None
        asked = [make_query(question, images=image or [])]
    else:
        asked = read_asked(queries)
    started = time.perf_counter()
    opened = open_memory(memory)
    check_gate(opened, settings)
    shown = [*(image or []), *read_files(asked)]
    for name, place in pages:
        check_no_input(place, shown, option=name)
        check_beside(place, model=model or opened.model_name, option=name)
    loaded = open_model(opened, model, vision_memory)
    load_seconds = time.perf_counter() - started
    if queries is None:
        return answer_one(
            loaded, opened, asked[0], settings, load_seconds, html=html, stream=stream, top=top or 1
        )
    settings["batch_size"] = batch_size or BATCH_SIZE
    return answer_file(
        loaded,
        opened,
        asked,
        settings,
        load_seconds,
        out=out,
        html=html,
        metric=metric or "exact",
        top=top or 1,
    )


def label_list(text: str) -> Any:
    """What `--labels` says: a list of labels, or "demonstrations"."""
    if text.strip() == "demonstrations":
        return "demonstrations"
    if not text.lstrip().startswith("["):
        return [label.strip() for label in text.split(",")]
    try:
        return parse_json(text)
    except ValueError:
        raise InputError(
            f"--labels {text}: expected 'wren,robin', a JSON list of strings, or 'demonstrations'."
        ) from None


def _epsilon(text: str | None) -> Any:
    if text is None or text == "calibrated":
        return text
    try:
        return nats(float(text), "--epsilon")
    except ValueError:
        raise InputError(
            f"--epsilon {text}: expected a number of nats, zero or more, or 'calibrated'."
        ) from None
