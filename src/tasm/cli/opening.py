"""How the commands open a memory and the model it was made for."""

from pathlib import Path
from typing import TYPE_CHECKING

from tasm.cli.frame import warn
from tasm.errors import InputError, ModelError

if TYPE_CHECKING:
    from tasm.answer import Model
    from tasm.memory import TaskMemory


def open_memory(path: Path) -> "TaskMemory":
    """Open a memory's folder; raises `InputError` where there is none."""
    if not path.is_dir():
        seen = "a file" if path.is_file() else "nothing"
        raise InputError(f"{path}: there is {seen} here; expected the folder of a task memory.")
    from tasm.memory import TaskMemory

    return TaskMemory.load(path)


def open_model(memory: "TaskMemory", place: str | None) -> "Model":
    """Load the model of a memory: from `place`, or from where it was when the memory was built.

    The model's identity is checked before the first answer, wherever it was found.
    """
    from tasm.answer import load_model

    name = place or memory.model_name
    if not name:
        raise InputError(
            "The memory does not say where its model is (it was made from a model in Python). "
            "Give --model."
        )
    try:
        model = load_model(name)
    except ModelError as error:
        if place is not None:
            raise
        raise ModelError(
            f"{error} The memory was built with {name}; --model says where it is now."
        ) from error
    _warn_of_another_dtype(memory, model)
    return model


def _warn_of_another_dtype(memory: "TaskMemory", model: "Model") -> None:
    """Say that answers may differ a little; with --store the build's own is not known."""
    runs_in = str(model.backbone.dtype).removeprefix("torch.")
    stored_as_it_ran = memory.recipe.get("settings", {}).get("store") is None
    if stored_as_it_ran and memory.dtype != runs_in:
        warn(f"The memory was built in {memory.dtype}, the model runs in {runs_in} here.")
