"""The curve of `tasm tune`: agreement and accuracy against what a memory takes, as an SVG.

Drawn by hand, so that it needs no plotting library. Knows figures only.
"""

from collections.abc import Mapping, Sequence
from html import escape
from math import log
from typing import Any

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 46, 56
COLOURS = {"agreement": "#2477e8", "accuracy": "#e8781c"}


def tuning_curve(document: Mapping[str, Any]) -> str:
    """Return the SVG of a document that `tasm tune --json` prints.

    ```python
    Path("tune.svg").write_text(tuning_curve(tuned.to_json()))
    ```
    """
    rows = sorted(document["evaluations"], key=_bytes)
    sizes = [_bytes(row) for row in rows] or [1]
    ends = (log(min(sizes) / 1.2), log(max(sizes) * 1.2))

    def across(size: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (log(size) - ends[0]) / (ends[1] - ends[0])

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="system-ui,sans-serif" font-size="12" role="img">',
        f"<title>{escape(str(document['why']))}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_line(LEFT, _down(tick), WIDTH - RIGHT, _down(tick), "#dcdfe3"))
        parts.append(_text(LEFT - 8, _down(tick) + 4, f"{tick:g}", "end"))
    for number, (name, colour) in enumerate(COLOURS.items()):
        parts.append(f'<circle cx="{LEFT + 6 + 110 * number}" cy="20" r="5" fill="{colour}"/>')
        parts.append(_text(LEFT + 16 + 110 * number, 24, name, "start"))
        for recipe in dict.fromkeys(row["recipe"] for row in rows):
            known = [r for r in rows if r["recipe"] == recipe and r[name] is not None]
            places = [(across(_bytes(row)), _down(row[name])) for row in known]
            parts += _curve(places, colour)
    parts += _sizes([(across(_bytes(row)), row) for row in rows], document)
    parts.append(
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "core and bank, MB (core)", "middle")
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _curve(places: Sequence[tuple[float, float]], colour: str) -> list[str]:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    line = f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return [
        line,
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places),
    ]


def _sizes(
    places: Sequence[tuple[float, Mapping[str, Any]]], document: Mapping[str, Any]
) -> list[str]:
    """What each point is, and which one was chosen; those too near to another stay unnamed."""
    parts: list[str] = []
    last = -1e9
    for x, row in places:
        is_chosen = (row["recipe"], row["core"]) == (document["recipe"], document["core"])
        if is_chosen:
            parts.append(_line(x, TOP, x, HEIGHT - BOTTOM, "#0b6e5f", dashes="4 3"))
            parts.append(_text(x, TOP - 6, "taken", "middle"))
        if is_chosen or x - last > 60:
            last = x
            parts.append(_text(x, HEIGHT - BOTTOM + 16, f"{_bytes(row) / 1e6:.3g}", "middle"))
            parts.append(_text(x, HEIGHT - BOTTOM + 30, str(row["core"] or ""), "middle"))
    return parts


def _bytes(row: Mapping[str, Any]) -> int:
    return int(row["core_bytes"] + row["bank_bytes"])


def _down(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "none") -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-dasharray="{dashes}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#3a4048">{escape(text)}</text>'
    )
