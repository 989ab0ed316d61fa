"""The refusal of a memory that was made for another model: what differs, and what to do."""

from collections.abc import Sequence
from typing import NoReturn

from tasm.backbone.checkpoint.environment import ADAPTERS, environment_differences
from tasm.backbone.checkpoint.identity import VISION_MEMORY, Identity
from tasm.errors import MismatchError


def refuse(built: Identity, here: Identity, differences: Sequence[str]) -> NoReturn:
    """Raise `MismatchError` with the parts that differ and the way out.

    ```python
    refuse(memory.identity, backbone.identity, ["weights"])
    ```
    """
    way = _about_adapters(built, here) if "weights" in differences else ""
    if not way and differences == [VISION_MEMORY]:
        way = _about_vision_memory(built, here)
    if not way and not built.running:
        way = (
            " It was written by an earlier tasm, which knew a model by its files only: open the "
            "model from the folder or by the name that the memory was built with, unchanged, or "
            "build the memory anew (`tasm rebuild`)."
        )
    raise MismatchError(
        f"This memory was made for another model: {'; '.join(differences)}."
        + (
            way
            or " Give the model it was made for, or build it anew for this one (`tasm rebuild`)."
        )
    )


def remarks(built: Identity, here: Identity) -> list[str]:
    """Return what to warn of where nothing is refused: another environment, or a memory that knows
    its model by name alone.

    ```python
    remarks(memory.identity, backbone.identity)      # []
    ```
    """
    sentences = environment_differences(built.environment, here.environment)
    weights = built.parts.get("weights")
    if not built.running and here.earlier is not None and weights != here.parts.get("weights"):
        name = here.earlier().get("name")
        if name:
            sentences.append(
                f"The memory was written by an earlier tasm, which knew the model as {name} alone: "
                "whether the weights have been changed since cannot be told. Build it anew to know."
            )
    return sentences


def _about_vision_memory(built: Identity, here: Identity) -> str:
    if VISION_MEMORY not in here.parts:
        return (
            " It was built with a vision memory, and none is on here. Give the one it was built "
            "with (--vision-memory, in Python model.attach_vision_memory)."
        )
    if VISION_MEMORY not in built.parts:
        return (
            " It was built without a vision memory, and one is on here. Leave --vision-memory out "
            "(in Python: vision_memory.remove()), or build the memory anew with it."
        )
    return (
        " It was built with another vision memory than the one that is on here. Give that one "
        "(--vision-memory), or build the memory anew."
    )


def _about_adapters(built: Identity, here: Identity) -> str:
    if ADAPTERS not in built.environment:
        return ""
    then, now = built.environment[ADAPTERS], here.environment.get(ADAPTERS)
    if then == now:
        return ""
    if then is None:
        return (
            f" It was built without an adapter; now {now!r} is active. Switch it off (such as "
            "`with model.hf.disable_adapter():` of PEFT), or build the memory anew."
        )
    names = then.split(", ")
    wanted = repr(names[0]) if len(names) == 1 else repr(names)
    active = "none" if now is None else repr(now)
    return (
        f" It was built with adapter {then!r} active; now {active} is: "
        f"model.hf.set_adapter({wanted}), after loading it where it is not there and enabling "
        "adapters where they are switched off."
    )
