"""The curve of `tasm tune`: agreement and accuracy against what a memory takes, as an SVG.

From a template, so that it needs no plotting library. Knows figures only.
"""

from collections.abc import Mapping
from math import log
from typing import Any

from tasm.view.html_page import render

LEFT, RIGHT, TOP, BOTTOM = 60, 620, 46, 304
"""The plot's sides in a picture of 640 by 360."""
APART = 60
COLOURS = {"agreement": "#2477e8", "accuracy": "#e8781c"}


def tuning_curve(document: Mapping[str, Any]) -> str:
    """Return the SVG of a document that `tasm tune --json` prints.

    ```python
    Path("tune.svg").write_text(tuning_curve(tuned.to_json()))
    ```
    """
    rows = sorted(document["evaluations"], key=_bytes)
    sizes = [_bytes(row) for row in rows] or [1]
    low, high = log(min(sizes) / 1.2), log(max(sizes) * 1.2)

    def across(row: Mapping[str, Any]) -> float:
        return LEFT + (RIGHT - LEFT) * (log(_bytes(row)) - low) / (high - low)

    def curve(recipe: str, name: str) -> list[tuple[float, float]]:
        known = [row for row in rows if row["recipe"] == recipe and row[name] is not None]
        return [(across(row), _down(row[name])) for row in known]

    recipes = dict.fromkeys(row["recipe"] for row in rows)
    points, last = [], -1e9
    for row in rows:  # those too near to another stay unnamed
        is_chosen = (row["recipe"], row["core"]) == (document["recipe"], document["core"])
        if is_chosen or across(row) - last > APART:
            last = across(row)
            points.append((last, f"{_bytes(row) / 1e6:.3g}", row["core"] or "", is_chosen))
    return render(
        "tuning_curve.svg",
        why=document["why"],
        sides=(LEFT, RIGHT, TOP, BOTTOM),
        ticks=[(f"{tick:g}", _down(tick)) for tick in (0.0, 0.25, 0.5, 0.75, 1.0)],
        curves=[
            (name, colour, [curve(recipe, name) for recipe in recipes])
            for name, colour in COLOURS.items()
        ],
        points=points,
    )


def _bytes(row: Mapping[str, Any]) -> int:
    return int(row["core_bytes"] + row["bank_bytes"])


def _down(share: float) -> float:
    return TOP + (BOTTOM - TOP) * (1 - share)
