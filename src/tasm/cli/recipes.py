"""`tasm recipes`: the methods there are. Imports no torch."""

from typing import Any

from tasm.cli.frame import Result, command
from tasm.cli.options import Json


@command
def recipes(json: Json = False) -> Result:
    """List the memory methods (recipes) with their papers.

    \b
    Example:
      tasm recipes
      tasm build demos.jsonl --model reference --recipe recent --out demos.tasm
    """
    from tasm.compress.recipes.listing import recipes as rows_of_recipes

    rows = rows_of_recipes()
    return Result(rows, lambda: _table(rows))


def _table(rows: list[dict[str, Any]]) -> Any:
    from tasm.cli.text import plain, table

    cells = ("name", "year", "title", "scorer", "reducer", "gate", "url")
    listing = table("Recipe", *(cell.capitalize() for cell in cells[1:]))
    for column in (listing.columns[0], listing.columns[-1]):
        column.no_wrap = True
    for row in rows:
        listing.add_row(*(plain(row[cell] if row[cell] else "–") for cell in cells))
    return listing
