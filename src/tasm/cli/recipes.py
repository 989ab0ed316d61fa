"""`tasm recipes`: the methods there are. Imports no torch."""

from typing import Any

from tasm.cli.frame import Result, command


@command
def recipes() -> Result:
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
    from tasm.cli.text import table

    cells = ("name", "year", "title", "scorer", "reducer", "gate", "url")
    columns = ["Recipe", *(cell.capitalize() for cell in cells[1:])]
    listing = table(columns, ((row[cell] or None for cell in cells) for row in rows))
    for column in (listing.columns[0], listing.columns[-1]):
        column.no_wrap = True
    return listing
