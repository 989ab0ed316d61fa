"""What a run of the leaderboard leaves in its folder: tables, plots, and one page with all of it.

The page carries its pictures and styles in itself and opens without a server. Where matplotlib is
missing there are no plots, and the page says so.
"""

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasm.bench.cards import card_table
from tasm.bench.leaderboard import leaderboard
from tasm.bench.pool import pool
from tasm.bench.results import Row
from tasm.errors import WorkError
from tasm.view.board_page import page, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def publish(rows: Sequence[Row], model: str, out: Path, *, cards: bool = False) -> list[Path]:
    """Write `leaderboard.md`, `report.html`, `plots/*.svg` and, with `cards`, `cards.md`.

    ```python
    publish(outcome.rows, "reference", Path("out/bench"))
    ```

    Raises:
        WorkError: if the disk refuses.
    """
    written = {"leaderboard.md": leaderboard(rows, model)}
    if cards:
        written["cards.md"] = "# Suite cards\n\n" + card_table(pool(rows))
    pictures = _pictures(rows)
    sections = [tables(text) for text in written.values()]
    sections += [
        f"<h2>{html.escape(_TITLES[name])}</h2>\n<figure>{picture}</figure>"
        for name, picture in pictures.items()
    ]
    if not pictures:
        sections.append("<p>No plots: matplotlib is not installed (the extra <i>plots</i>).</p>")
    written |= {f"plots/{name}.svg": picture for name, picture in pictures.items()}
    written["report.html"] = page(f"Leaderboard: {model}", sections)
    try:
        for name, text in written.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkError(f"Could not write {error.filename}: {error.strerror}.") from error
    return [out / name for name in written]


_TITLES = {
    "accuracy-bytes": "Accuracy against stored bytes",
    "accuracy-demonstrations": "Accuracy against demonstrations",
    "needle": "Needle: depth against images",
    "ablations": "Ablations",
}


def _pictures(rows: Sequence[Row]) -> dict[str, str]:
    try:
        from tasm.bench import plots
    except ImportError:
        return {}
    figures = {
        "accuracy-bytes": plots.accuracy_against_bytes(rows),
        "accuracy-demonstrations": plots.accuracy_against_demonstrations(rows),
        "needle": plots.needle_heat_maps(rows),
        "ablations": plots.ablation_bars(rows),
    }
    return {name: _svg(figure) for name, figure in figures.items() if figure is not None}


def _svg(figure: "Figure") -> str:
    """The figure as an `<svg>` element that can stand inside a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
