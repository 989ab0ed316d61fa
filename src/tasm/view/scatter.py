"""Points with intervals over a logarithmic axis, in per cent, so that letters keep their size.

Knows places, not what is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

TICKS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 100, 250, 1000)
NEAR_X, NEAR_Y = 5.0, 0.055  # per cent of the width, accuracy: closer marks would overlap
STEPS = (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5)
VERTICAL = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Measured:
    """A point: x above 0, y and its interval from 0 to 1, and what it is called in full."""

    x: float
    y: float
    low: float
    high: float
    name: str


@dataclass(frozen=True)
class Line:
    """The points of one method; `number` from 0 is written in each of its marks."""

    number: int
    name: str
    points: tuple[Measured, ...]


@dataclass(frozen=True)
class Scatter:
    """Lines in a panel, and references: (name, y) drawn across."""

    title: str
    across: str
    lines: tuple[Line, ...]
    references: tuple[tuple[str, float], ...]
    ends: tuple[float, float]

    @classmethod
    def of(
        cls,
        title: str,
        across: str,
        lines: Sequence[Line],
        references: Sequence[tuple[str, float]] = (),
    ) -> "Scatter":
        """A panel wide enough for all points.

        ```python
        >>> line = Line(0, "tasm", (Measured(10, 0.9, 0.8, 1.0, "tasm 10%"),))
        >>> Scatter.of("Accuracy", "bytes, %", [line]).left(10) > 0
        True
        ```
        """
        places = [point.x for line in lines for point in line.points]
        return cls(
            title,
            across,
            tuple(lines),
            tuple(references),
            (min(places, default=1.0) / 1.25, max(places, default=100.0) * 1.25),
        )

    def left(self, x: float) -> float:
        """Where x stands, in per cent of the width."""
        low, high = self.ends
        return round(100 * log(x / low) / log(high / low), 2)

    @property
    def marks(self) -> list[tuple[Line, Measured, int]]:
        """Every point with how many marks' widths it is moved aside, so that none hides another."""
        placed: list[tuple[float, float, int]] = []
        found = []
        for line in self.lines:
            for point in line.points:
                left = self.left(point.x)
                taken = {
                    aside
                    for x, y, aside in placed
                    if abs(x - left) < NEAR_X and abs(y - point.y) < NEAR_Y
                }
                aside = next(step for step in STEPS if step not in taken or step == STEPS[-1])
                placed.append((left, point.y, aside))
                found.append((line, point, aside))
        return found

    @property
    def ticks(self) -> list[tuple[str, float]]:
        """Labels of the horizontal axis and where they stand."""
        low, high = self.ends
        return [(f"{tick:g}", self.left(tick)) for tick in TICKS if low <= tick <= high]
