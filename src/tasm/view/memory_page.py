"""`tasm show --html`: what a memory holds, as one page with heat maps over pictures and texts."""

from typing import TYPE_CHECKING

from tasm.view.html_page import render
from tasm.view.memory_view import view_of

if TYPE_CHECKING:
    from tasm.memory import TaskMemory


def memory_page(memory: "TaskMemory", name: str) -> str:
    """Return the page of a memory; `name` is what it is called.

    ```python
    Path("birds.html").write_text(memory_page(tasm.load("birds.tasm"), "birds.tasm"))
    ```

    Raises `DamageError` where a file of the memory is damaged.
    """
    return render(
        "memory.html",
        title=f"{name} · task memory",
        name=name,
        model=memory.model_name or "a wrapped model",
        recipe=str(memory.recipe.get("name", "?")),
        memory=view_of(memory),
    )
