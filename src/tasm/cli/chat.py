"""`tasm chat`: one question after another to a memory, the model loaded once."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from tasm.cli.ask import label_list
from tasm.cli.asking import drawn_on, label_lines
from tasm.cli.frame import Json, Result, command, say
from tasm.cli.opening import open_memory, open_model
from tasm.cli.options import MemoryPath, ModelPlace, Top
from tasm.errors import InputError, TasmError

if TYPE_CHECKING:
    from tasm.memory import TaskMemory

SHOWN_SHARES = 5
HELP = (
    "Type a question and press Enter. Every question stands alone.\n"
    "  /image FILE…   pictures for the next question; <image> says where one stands\n"
    "  /explain       switch what each answer drew on on and off\n"
    "  /help          this text\n"
    "  /quit          leave (so does the end of the input)"
)


@command
def chat(
    memory: MemoryPath,
    labels: Annotated[
        str | None,
        Option(
            metavar="LABELS|demonstrations",
            help="Choose every answer among labels: 'wren,robin', a JSON list, or the "
            "demonstrations' own answers.",
        ),
    ] = None,
    top: Top = None,
    explain: Annotated[
        bool, Option("--explain", help="Say which demonstrations each answer drew on.")
    ] = False,
    model: ModelPlace = None,
    json: Json = False,
) -> Result:
    """Ask a memory one question after another; questions come from standard input, too.

    Every question stands alone. With --json all answers are printed as one document at the end.

    \b
    Examples:
      tasm chat birds.tasm
      echo "Is it a wren?" | tasm chat birds.tasm
      tasm chat birds.tasm --top 3
    """
    if labels is None and top is not None:
        labels = "demonstrations"
    opened = open_memory(memory)
    loaded = open_model(opened, model)
    chosen = None if labels is None else label_list(labels)
    if chosen is not None:
        from tasm.answer.labels import as_labels

        chosen = as_labels(chosen, opened)
    shows = explain
    answers: list[dict[str, Any]] = []
    failed = 0
    pictures: list[Path] = []
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        say(f"{memory}: {len(opened.demonstrations)} demonstrations. {HELP}")
    for line in _lines(is_terminal):
        try:
            if line.startswith("/"):
                wish, *rest = shlex.split(line)
                if wish in ("/quit", "/exit"):
                    break
                if wish == "/image":
                    pictures = [_picture(name) for name in rest]
                elif wish == "/explain":
                    shows = not shows
                    say(f"Explanations are {'on' if shows else 'off'}.")
                elif wish == "/help":
                    say(HELP)
                else:
                    raise InputError(f"There is no {wish} here. /help lists what there is.")
                continue
            answer = loaded.ask(
                opened, question=line, images=pictures, labels=chosen, explain=shows
            )
        except (TasmError, ValueError) as error:  # one wrong line doesn't end the session
            say(f"Error: {error}")
            failed += 1
            continue
        pictures = []
        answers.append({"question": line, **answer.to_json()})
        if not json:
            _show(answers[-1], top or 1, opened)
    return Result(
        {"answers": answers, "failed": failed}, exit_code=0 if is_terminal or not failed else 2
    )


def _show(document: dict[str, Any], top: int, memory: "TaskMemory") -> None:
    labels = document["labels"]
    lines = label_lines(labels, top) if labels and top > 1 else [document["answer"]]
    lines += drawn_on(document["demonstrations"], memory, SHOWN_SHARES)
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _picture(name: str) -> Path:
    place = Path(name).expanduser()
    if not place.is_file():
        raise InputError(f"{name}: there is no such file; expected a picture.")
    return place


def _lines(is_terminal: bool) -> Iterator[str]:
    """What is typed or piped, a line each, empty ones left out."""
    while True:
        if is_terminal:
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
