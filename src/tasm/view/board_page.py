"""The leaderboard's page: one overview, one table to sort, the rest folded. Knows no rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasm.view.html_page import render
from tasm.view.scatter import VERTICAL, Scatter
from tasm.view.tables import Table


@dataclass(frozen=True)
class Fold:
    """What stands folded: tables, pictures (an address and what it shows) or lines of text."""

    title: str
    note: str = ""
    tables: tuple[tuple[str, Table], ...] = ()
    pictures: tuple[tuple[str, str], ...] = ()
    lines: tuple[str, ...] = ()


def board_page(
    model: str, facts: Sequence[str], panels: Sequence[Scatter], table: Table, folds: Sequence[Fold]
) -> str:
    """Return the page; `facts` are sentences about the run, every text is escaped.

    ```python
    Path("report.html").write_text(board_page("reference", [], [], table, []))
    ```
    """
    return render(
        "board.html",
        title=f"Leaderboard: {model}",
        model=model,
        facts=facts,
        panels=panels,
        vertical=VERTICAL,
        table=table,
        folds=folds,
    )
