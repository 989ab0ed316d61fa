"""Pictures of a leaderboard: accuracy against bytes, against demonstrations, needles, ablations.

Each function takes rows and returns a matplotlib figure, or None where the rows do not hold what
it shows. Needs matplotlib (the extra `plots`).
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tasm.bench.pool import PooledRow, pool
from tasm.bench.results import Row

PANEL_WIDTH, PANEL_HEIGHT, COLUMNS = 3.6, 2.8, 3
DEPTH_BINS = 5
_COLOURS = (
    "#0b6e4f #d1495b #30638e #edae49 #6b4c9a #3fa7d6 #8c564b #f37748 #59a14f #7f7f7f #b07aa1 "
    "#17807e #c44e9c #94a61f"
).split()
_MARKERS = "osD^vP*X<>"
REFERENCES = {"full": ("#222222", "-"), "zero-shot": ("#999999", ":")}


def accuracy_against_bytes(rows: Sequence[Row]) -> Figure | None:
    """Draw, a panel a suite, accuracy against stored bytes (core and bank) as a share of the full.

    Bars are 95 % intervals; `full` and `zero-shot` are lines across.
    """
    pooled = pool(rows)
    measured = [row for row in pooled if row.recipe not in REFERENCES]
    if not measured:
        return None
    suites = list(dict.fromkeys(row.suite for row in pooled))
    styles = _styles(row.recipe for row in measured)
    figure, panels = _panels(len(suites))
    for panel, suite in zip(panels, suites, strict=True):
        here = [row for row in pooled if row.suite == suite]
        for recipe, style in styles.items():
            points = sorted(
                ((_bytes(row), row) for row in here if row.recipe == recipe), key=lambda p: p[0]
            )
            if points:
                _line(panel, [x for x, _ in points], [row for _, row in points], recipe, style)
        _references(panel, here)
        panel.set(title=suite, xlabel="stored bytes, % of full context", xscale="log")
        panel.set_xticks([2.5, 5, 10, 20, 40, 60, 100])
        panel.set_xticks([], minor=True)
        panel.set_xticklabels(["2.5", "5", "10", "20", "40", "60", "100"])
    return _finished(figure, panels)


def accuracy_against_demonstrations(rows: Sequence[Row]) -> Figure | None:
    """Draw, a panel a suite, accuracy against the number of demonstrations, one line a recipe.

    Shows suites that were measured at two or more numbers (`bind@8,bind@16,bind`).
    """
    pooled = pool(rows)
    counts: dict[str, set[int]] = {}
    for row in pooled:
        counts.setdefault(_family(row.suite), set()).add(row.demonstrations)
    families = [name for name, seen in counts.items() if len(seen) > 1]
    if not families:
        return None
    lines = list(dict.fromkeys((row.recipe, row.budget) for row in pooled))
    styles = _styles(_label(*line) for line in lines)
    figure, panels = _panels(len(families))
    for panel, family in zip(panels, families, strict=True):
        for recipe, core in lines:
            points = sorted(
                (
                    row
                    for row in pooled
                    if (row.recipe, row.budget) == (recipe, core) and _family(row.suite) == family
                ),
                key=lambda row: row.demonstrations,
            )
            if points:
                label = _label(recipe, core)
                _line(panel, [row.demonstrations for row in points], points, label, styles[label])
        panel.set(title=family, xlabel="demonstrations")
    return _finished(figure, panels)


def needle_heat_maps(rows: Sequence[Row]) -> Figure | None:
    """Draw, a panel a recipe and budget, accuracy by the needle's depth and the number of images.

    Depth 0 is the first demonstration, 1 the last. Shows suites whose queries know their depth.
    """
    deep = [row for row in rows if any(depth is not None for depth in row.depths)]
    if not deep:
        return None
    counts = sorted({row.demonstrations for row in deep})
    cells = list(dict.fromkeys((row.recipe, row.budget) for row in deep))
    figure, panels = _panels(len(cells))
    shown = None
    for panel, (recipe, core) in zip(panels, cells, strict=True):
        grid = np.full((DEPTH_BINS, len(counts)), np.nan)
        for depth, column in product(range(DEPTH_BINS), range(len(counts))):
            hits = [
                value
                for row in deep
                if (row.recipe, row.budget, row.demonstrations) == (recipe, core, counts[column])
                for place, value in zip(row.depths, row.correct, strict=True)
                if place is not None and min(int(place * DEPTH_BINS), DEPTH_BINS - 1) == depth
            ]
            if hits:
                grid[depth, column] = np.mean(hits)
        shown = panel.imshow(grid, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for (depth, column), value in np.ndenumerate(grid):
            if not np.isnan(value):
                colour = "white" if value < 0.6 else "black"
                panel.text(
                    column, depth, f"{value:.2f}", ha="center", va="center", color=colour, size=7
                )
        panel.set(title=_label(recipe, core), xlabel="images", ylabel="depth")
        panel.set_xticks(range(len(counts)), [str(count) for count in counts])
        panel.set_yticks([0, DEPTH_BINS - 1], ["first", "last"])
    if shown is not None:
        figure.colorbar(shown, ax=panels, label="accuracy", shrink=0.7)
    return figure


def ablation_bars(rows: Sequence[Row], prefix: str = "tasm") -> Figure | None:
    """Draw the mean accuracy over suites of every recipe whose name begins with `prefix`.

    A panel a core budget; bars stand in the order in which the recipes were named.
    """
    pooled = [row for row in pool(rows) if row.recipe.startswith(prefix)]
    recipes = list(dict.fromkeys(row.recipe for row in pooled))
    cores = list(dict.fromkeys(row.budget for row in pooled))
    if len(recipes) < 2:
        return None
    figure, panels = _panels(len(cores))
    styles = _styles(recipes)
    for panel, core in zip(panels, cores, strict=True):
        for place, recipe in enumerate(recipes):
            values = [row.accuracy for row in pooled if (row.recipe, row.budget) == (recipe, core)]
            if values:
                mean = float(np.mean(values))
                panel.barh(place, mean, color=styles[recipe][0])
                panel.text(mean + 0.01, place, f"{mean:.3f}", va="center", size=7)
        panel.set_yticks(range(len(recipes)), recipes, size=7)
        panel.invert_yaxis()
        panel.set(title=f"budget {core}", xlim=(0, 1.12), xlabel="mean accuracy over suites")
    return figure


def _bytes(row: PooledRow) -> float:
    return 100 * (row.core_bytes + row.bank_bytes) / row.full_bytes


def _family(suite: str) -> str:
    """A suite's name without its number of demonstrations: `bind@8:ways=4` is `bind:ways=4`."""
    head, *options = suite.split(":")
    return ":".join([head.partition("@")[0], *options])


def _label(recipe: str, core: str | None) -> str:
    return recipe if core is None else f"{recipe} {core}"


def _styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker a name, the same for the same names in the same order."""
    return {
        name: (_COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)])
        for number, name in enumerate(dict.fromkeys(names))
    }


def _panels(count: int) -> tuple[Figure, list[Any]]:
    columns = min(COLUMNS, count)
    lines = -(-count // columns)
    figure = Figure(
        figsize=(PANEL_WIDTH * columns, PANEL_HEIGHT * lines), layout="constrained", dpi=110
    )
    panels = list(np.ravel(figure.subplots(lines, columns, squeeze=False)))
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels[:count]


def _line(
    panel: Any, x: Sequence[float], rows: Sequence[PooledRow], label: str, style: tuple[str, str]
) -> None:
    accuracy = np.array([row.accuracy for row in rows])
    ends = np.array([row.ci95 for row in rows]).T
    panel.errorbar(
        x,
        accuracy,
        yerr=np.abs(ends - accuracy),
        label=label,
        color=style[0],
        marker=style[1],
        markersize=4,
        linewidth=1.2,
        elinewidth=0.7,
    )


def _references(panel: Any, rows: Sequence[PooledRow]) -> None:
    for row in rows:
        if row.recipe in REFERENCES:
            colour, line = REFERENCES[row.recipe]
            panel.axhline(row.accuracy, color=colour, linestyle=line, linewidth=1, label=row.recipe)


def _finished(figure: Figure, panels: Sequence[Any]) -> Figure:
    known: dict[str, Any] = {}
    for panel in panels:
        panel.set(ylim=(-0.03, 1.03), ylabel="accuracy")
        panel.grid(alpha=0.25)
        handles, labels = panel.get_legend_handles_labels()
        known.update(zip(labels, handles, strict=True))
    figure.legend(
        known.values(), known.keys(), loc="outside lower center", ncols=5, fontsize=7, frameon=False
    )
    return figure
