"""`tasm recipes`: the methods there are. Imports no torch."""

from typing import TYPE_CHECKING, Any

from tasm.cli.frame import Result, command
from tasm.cli.options import Json

if TYPE_CHECKING:
    from tasm.compress.recipes.table import Recipe


@command
def recipes(json: Json = False) -> Result:
    """List the memory methods (recipes) with their papers.

    \b
    Example:
      tasm recipes
      tasm build demos.jsonl --model reference --recipe recent --out demos.tasm
    """
    from tasm.compress.recipes.table import all_recipes

    rows = [_row(recipe) for recipe in all_recipes().values()]
    return Result(rows, lambda: _table(rows))


def _row(recipe: "Recipe") -> dict[str, Any]:
    parts = {"scorer": recipe.scorer, "budget": recipe.budget, "reducer": recipe.reducer}
    return {
        "name": recipe.name,
        "title": recipe.title,
        "year": recipe.year,
        "url": recipe.url,
        "kind": recipe.kind,
        **{name: None if part is None else part.name for name, part in parts.items()},
        "gate": recipe.gate.get("kind"),
    }


def _table(rows: list[dict[str, Any]]) -> Any:
    from tasm.cli.text import plain, table

    cells = ("name", "year", "title", "scorer", "reducer", "gate", "url")
    listing = table("Recipe", *(cell.capitalize() for cell in cells[1:]))
    for column in (listing.columns[0], listing.columns[-1]):
        column.no_wrap = True
    for row in rows:
        listing.add_row(*(plain(row[cell] if row[cell] else "–") for cell in cells))
    return listing
