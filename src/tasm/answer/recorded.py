"""The model that a memory is asked with: the one that is given, or the one that it recorded."""

from pathlib import Path
from typing import Any

from tasm.answer.model import Model, load_model
from tasm.backbone.checkpoint.environment import DTYPE
from tasm.backbone.given import as_backbone
from tasm.backbone.model import Backbone
from tasm.errors import InputError, MismatchError, ModelError
from tasm.memory import TaskMemory


def model_for(
    memory: TaskMemory,
    model: Any | None = None,
    *,
    option: str = "model",
    vision_memory: str | Path | None = None,
) -> Model:
    """Return the model of a memory: `model` (a `Model`, a name or a folder), or the recorded one.

    A model that is loaded here gets the vision memory that the task memory was built with, from
    `vision_memory` or from the recorded place; one that is loaded already stays as it is. Both
    identities are checked before the first answer, wherever they were found. `option` is what
    messages call `model`.

    Raises `InputError` where the memory does not say where its model is, and `ModelError` where it
    cannot be loaded.
    """
    if isinstance(model, Model):
        return model
    if model is not None and not isinstance(model, str | Path):
        return Model(as_backbone(model))
    loaded = load_model(model) if model is not None else _recorded_model(memory, option)
    _attach_recorded(loaded, memory, vision_memory)
    return loaded


def dtype_difference(backbone: Backbone, memory: TaskMemory) -> str | None:
    """Return a sentence where the model runs in another dtype than the memory was built in, so
    that answers may differ a little; with a `store` of its own the build's is not known."""
    if DTYPE in memory.identity.environment:
        return None  # checking the model says it, and knows better
    runs_in = str(backbone.dtype).removeprefix("torch.")
    stored_as_it_ran = memory.recipe.get("settings", {}).get("store") is None
    if stored_as_it_ran and memory.dtype != runs_in:
        return f"The memory was built in {memory.dtype}, the model runs in {runs_in} here."
    return None


def _attach_recorded(model: Model, memory: TaskMemory, place: str | Path | None) -> None:
    if place is not None:
        model.attach_vision_memory(place)
    elif memory.vision_memory:
        try:
            model.attach_vision_memory(memory.vision_memory)
        except MismatchError:
            memory.check(model.backbone.identity)  # where the model is another, that is the news
            raise
        except InputError as error:
            raise type(error)(
                f"{error} The task memory was built with the vision memory "
                f"{memory.vision_memory}; --vision-memory (in Python vision_memory=…) says where "
                "it is now."
            ) from error


def _recorded_model(memory: TaskMemory, option: str) -> Model:
    if not memory.model_name:
        raise InputError(
            "The memory does not say where its model is (it was made from a model in Python). "
            f"Give {option}."
        )
    try:
        return load_model(memory.model_name)
    except ModelError as error:
        raise ModelError(
            f"{error} The memory was built with {memory.model_name}; {option} says where it is now."
        ) from error
