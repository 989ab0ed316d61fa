"""How the commands open a memory and the model it was made for."""

from pathlib import Path
from typing import TYPE_CHECKING

from tasm.cli.frame import warn
from tasm.errors import InputError

if TYPE_CHECKING:
    from tasm.answer import Model
    from tasm.memory import TaskMemory


def open_memory(path: Path) -> "TaskMemory":
    """Open a memory's folder; raises `InputError` where there is none."""
    check_there(path)
    from tasm.memory import TaskMemory

    return TaskMemory.load(path)


def check_there(path: Path) -> None:
    """Raise `InputError` where there is no folder."""
    if not path.is_dir():
        seen = "a file" if path.is_file() else "nothing"
        raise InputError(f"{path}: there is {seen} here; expected the folder of a task memory.")


def open_model(
    memory: "TaskMemory", place: str | None, vision_memory: Path | None = None
) -> "Model":
    """Load the model of a memory: from `place`, or from where it was when the memory was built; its
    vision memory likewise.

    The model's identity is checked before the first answer, wherever it was found.
    """
    from tasm.answer.ask import dtype_difference
    from tasm.answer.model import model_for

    model = model_for(memory, place, option="--model", vision_memory=vision_memory)
    if difference := dtype_difference(model.backbone, memory):
        warn(difference)
    return model
