"""The recipes as rows of a table, for people and programs. Imports no torch."""

from typing import Any

from tasm.compress.recipes.recipe import Recipe
from tasm.compress.recipes.table import all_recipes


def recipes() -> list[dict[str, Any]]:
    """Return one row a recipe: name, title, year, url, kind, the names of its parts, and its form:
    "published", "tuned" (here, on training classes) or "ours".

    ```python
    [row["name"] for row in tasm.recipes() if row["kind"] == "memory"]
    ```
    """
    return [_row(recipe) for recipe in all_recipes().values()]


def _row(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "title": recipe.title,
        "year": recipe.year,
        "url": recipe.url,
        "kind": recipe.kind,
        **dict.fromkeys(("scorer", "budget", "reducer")),
        **{name: part.class_name for name, part in recipe.parts.items()},
        "gate": recipe.gate.get("kind"),
        "form": recipe.form,
    }
