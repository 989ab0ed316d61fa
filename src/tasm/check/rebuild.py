"""The same demonstrations and recipe on another model.

Knows where a memory's demonstrations may be found again and what it was built with; not how a
memory is built.
"""

import warnings
from collections.abc import Callable
from typing import Any

from tasm.answer.given import as_memory
from tasm.arguments import listener, unheard
from tasm.check.originals import originals_of
from tasm.compress.api import build
from tasm.compress.recipes.changed import recipe_change
from tasm.demonstrations import Demonstration
from tasm.errors import InputError
from tasm.memory import TaskMemory


def rebuild(
    memory: Any,
    model: Any,
    demonstrations: Any = None,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    notice: Callable[[str], None] | None = warnings.warn,
) -> TaskMemory:
    """Build a memory anew on another model: same demonstrations, recipe and settings.

    ```python
    tasm.rebuild("birds.tasm", "Qwen/Qwen3-VL-8B-Instruct").save("birds-qwen3.tasm")
    ```

    `memory` is a task memory or its folder, `model` and `demonstrations` as `tasm.build` takes
    them; without `demonstrations` the recorded files are read, each used only if its hash agrees.

    Raises `InputError` where the demonstrations are not found or not the ones that the memory was
    built from, and what `tasm.build` raises.
    """
    listener(progress, "progress")
    listener(notice, "notice")
    rows, settings = what_was_built(as_memory(memory), demonstrations, notice or unheard)
    return build(model, rows, progress=progress, notice=notice, **settings)


def what_was_built(
    memory: TaskMemory, demonstrations: Any, notice: Callable[[str], None]
) -> tuple[list[Demonstration], dict[str, Any]]:
    """Return a memory's demonstrations, and its recipe and settings for `build`; `notice` is told
    where a recipe is no longer what it was. Raises `InputError` as `rebuild` does."""
    rows = originals_of(memory, demonstrations)
    if rows is None:
        raise InputError(
            f"{memory.place or 'The memory'}: the original demonstrations are gone, were changed, "
            "or were not recorded (rows given in Python, --no-demonstrations). Say where they are "
            "with --demonstrations (in Python demonstrations=…)."
        )
    if changed := recipe_change(memory.recipe):
        notice(changed)
    return rows, settings_of(memory)


def settings_of(memory: TaskMemory) -> dict[str, Any]:
    """Return the recipe and settings that a memory was built with, for `build`."""
    return {"recipe": memory.recipe["name"], **(memory.recipe.get("settings") or {})}
