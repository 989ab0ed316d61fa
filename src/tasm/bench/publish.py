"""What a run of the leaderboard leaves in its folder: tables, plots, and one page with all of it.

The page carries its pictures and styles in itself and opens without a server. Where matplotlib is
missing there are no plots of single suites, and the page says so.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasm.bench.cards import card_table, card_texts
from tasm.bench.leaderboard import TABLES, leaderboard, notes, sections
from tasm.bench.overview import Overview
from tasm.bench.pool import pool
from tasm.bench.results import Row
from tasm.files import write_text
from tasm.view.board_page import Fold, board_page
from tasm.view.heat_maps import data_uri
from tasm.view.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def publish(rows: Sequence[Row], model: str, out: Path, *, cards: bool = False) -> list[Path]:
    """Write `leaderboard.md`, `report.html`, `plots/*.svg` and, with `cards`, `cards.md`.

    ```python
    publish(outcome.rows, "reference", Path("out/bench"))
    ```

    Raises:
        InputError: nothing can be written there.
        WorkError: the disk is full, or fails.
    """
    written = {"leaderboard.md": leaderboard(rows, model)}
    if cards:
        written["cards.md"] = "# Suite cards\n\n" + card_table(pool(rows))
    pictures = _pictures(rows)
    written |= {f"plots/{name}.svg": picture for name, picture in (pictures or {}).items()}
    written["report.html"] = _page(rows, model, pictures, cards=cards)
    for name, text in written.items():
        write_text(out / name, text)
    return [out / name for name in written]


def _page(rows: Sequence[Row], model: str, pictures: dict[str, str] | None, *, cards: bool) -> str:
    overview = Overview.of(rows)
    folds = [
        Fold(
            title,
            "each recipe with the largest of its budgets that stays within a limit",
            tables=tuple(
                (name, overview.standings(f"{title}: {name}", found))
                for limit, found in sections(rows, share)
                for name in [f"At most {100 * limit:g} %"]
            ),
        )
        for title, share in TABLES
    ]
    if cards:
        header, *body = card_texts(pool(rows))
        table = Table.of("Suite cards", header, body, header[1:])
        folds.append(Fold("Suite cards", "what each kind of token gives", tables=(("", table),)))
    folds.append(_plots(pictures))
    noted = notes(rows)
    if noted:
        folds.append(Fold("Notes", "what recipes found while building", lines=tuple(noted)))
    shown = [fold for fold in folds if fold.tables or fold.pictures or fold.lines]
    return board_page(model, [_about(rows)], overview.panels(), overview.table(), shown)


def _about(rows: Sequence[Row]) -> str:
    suites = dict.fromkeys(row.suite for row in rows)
    seeds = len({row.seed for row in rows})
    queries = sum({(row.suite, row.seed): len(row.correct) for row in rows}.values())
    return (
        f"Suites: {', '.join(suites)}. {queries:,} questions over {_counted(seeds, 'seed')}; "
        "intervals resample seeds, then questions. Shares are of the full context's tokens and "
        "bytes."
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _plots(pictures: dict[str, str] | None) -> Fold:
    if pictures is None:
        return Fold(
            "Plots of single suites", lines=("matplotlib is not installed (the extra plots).",)
        )
    return Fold(
        "Plots of single suites",
        ", ".join(_TITLES[name].lower() for name in pictures),
        pictures=tuple(
            (data_uri(picture.encode(), "image/svg+xml"), _TITLES[name])
            for name, picture in pictures.items()
        ),
    )


_TITLES = {
    "accuracy-bytes": "Accuracy against stored bytes",
    "accuracy-demonstrations": "Accuracy against demonstrations",
    "needle": "Needle: depth against images",
    "ablations": "Ablations",
}


def _pictures(rows: Sequence[Row]) -> dict[str, str] | None:
    """Plots by name; None where matplotlib is missing."""
    try:
        from tasm.bench import plots
    except ImportError:
        return None
    figures = {
        "accuracy-bytes": plots.accuracy_against_bytes(rows),
        "accuracy-demonstrations": plots.accuracy_against_demonstrations(rows),
        "needle": plots.needle_heat_maps(rows),
        "ablations": plots.ablation_bars(rows),
    }
    return {name: _svg(figure) for name, figure in figures.items() if figure is not None}


def _svg(figure: "Figure") -> str:
    """The figure as a document of one `<svg>` element."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
