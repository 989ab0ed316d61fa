"""How the commands open what they are given: rows, a memory, the model it was made for."""

from pathlib import Path
from typing import TYPE_CHECKING

from tasm.cli.frame import warn
from tasm.cli.progress import Progress
from tasm.errors import InputError

if TYPE_CHECKING:
    from tasm.answer import Model
    from tasm.demonstrations import Demonstration, Query
    from tasm.memory import TaskMemory
    from tasm.memory.hub.names import HubName


def read_rows(
    place: Path, question: str | None, *, skip_bad_rows: bool = False
) -> "list[Demonstration]":
    """Read demonstrations; refuse a question for rows that have none where every row has one."""
    from tasm.demonstrations import IMAGE_MARK, read_demonstrations

    with Progress() as progress:
        rows = read_demonstrations(
            place, question=question, skip_bad_rows=skip_bad_rows, warn=warn, progress=progress
        )
    if question is None:
        return rows

    def plain(text: str) -> list[str]:
        return text.replace(IMAGE_MARK, " ").split()

    asked = plain(question)
    if any(plain(message.text) == asked for one in rows for message in one.messages):
        return rows
    raise InputError(
        f"--question {question!r} has no effect: it stands in for rows without a question, and "
        "every row has one. Leave --question out."
    )


def read_asked(place: Path) -> "list[Query]":
    """Read a file of queries."""
    from tasm.demonstrations import read_queries

    with Progress() as progress:
        return read_queries(place, warn=warn, progress=progress)


def open_memory(path: Path) -> "TaskMemory":
    """Open a memory's folder, or one of the hub; raises `InputError` where there is none."""
    check_there(path)
    from tasm.memory import TaskMemory

    return TaskMemory.load(path)


def check_there(path: Path) -> None:
    """Raise `InputError` where there is no folder, and the path is no name of the hub's."""
    if not path.is_dir() and _named(path) is None:
        seen = "a file" if path.is_file() else "nothing"
        raise InputError(f"{path}: there is {seen} here; expected the folder of a task memory.")


def check_here(path: Path) -> None:
    """Raise `InputError` where a memory is to be changed that is not on this machine."""
    check_there(path)
    if (name := _named(path)) is not None:
        raise InputError(
            f"{path} is no folder here, and a memory is not changed on the hub. Fetch it, change "
            f'it and push it: tasm.load("{name}").save("birds.tasm"), then '
            f"tasm push birds.tasm {name.repository}."
        )


def _named(path: Path) -> "HubName | None":
    if path.as_posix().partition("@")[0].count("/") != 1:  # a revision may have more: refs/pr/1
        return None
    from tasm.memory.hub.names import named  # takes torch to import

    return named(path)


def open_model(
    memory: "TaskMemory", place: str | None, vision_memory: Path | None = None
) -> "Model":
    """Load the model of a memory: from `place`, or from where it was when the memory was built; its
    vision memory likewise.

    The model's identity is checked before the first answer, wherever it was found.
    """
    from tasm.answer.recorded import dtype_difference, model_for

    model = model_for(memory, place, option="--model", vision_memory=vision_memory)
    if difference := dtype_difference(model.backbone, memory):
        warn(difference)
    return model
