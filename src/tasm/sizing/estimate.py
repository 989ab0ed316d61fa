"""What a few judged answers say about the next ones: a share, its interval, what is confused."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

Z = 1.959964


@dataclass(frozen=True)
class Confusion:
    """How often `said` was answered where `expected` was right."""

    expected: str
    said: str
    times: int


def interval(mean: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `count` answers (Wilson 1927).

    ```python
    >>> low, high = interval(1.0, 40)
    >>> round(low, 3), high
    (0.912, 1.0)
    ```
    """
    centre = mean + Z**2 / (2 * count)
    spread = Z * sqrt(mean * (1 - mean) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def confusions(pairs: Sequence[tuple[str, str]]) -> list[Confusion]:
    """Return every (expected, said) with how often it came, right ones included, in order.

    ```python
    >>> confusions([("wren", "robin"), ("wren", "wren")])[0].said
    'robin'
    ```
    """
    return [Confusion(*pair, times) for pair, times in sorted(Counter(pairs).items())]
