"""The smallest entry of a growing grid that passes, found in few evaluations.

Bisection takes for granted that what is larger passes too. Measured agreement only nearly does, so
what evaluations are left try whether something much smaller passes as well. Knows numbers only.
"""

from collections.abc import Callable

MOST_EVALUATIONS = 6
STEPS_A_HALF = 4
"""Of the grid: so many steps down halve the core."""


def grid(smallest: float) -> list[str]:
    """Return cores as shares from `smallest` to 100%, each 2^(1/4) times the one before.

    ```python
    >>> grid(0.5)
    ['50%', '59.5%', '70.7%', '84.1%', '100%']
    ```
    """
    shares = [100 * 2 ** (-step / STEPS_A_HALF) for step in range(27)]
    kept = [share for share in shares if share >= 100 * smallest]
    return [f"{share:.3g}%" for share in reversed(kept)]


def smallest_that_passes(
    count: int, passes: Callable[[int], bool], most: int = MOST_EVALUATIONS
) -> int | None:
    """Return the place of the smallest entry found to pass, None where the largest does not.

    `passes` is called at most `most` times for up to 2 ** (most - 1) entries, never twice for one.

    ```python
    >>> smallest_that_passes(27, lambda place: place >= 11)
    11
    ```
    """
    known: dict[int, bool] = {}

    def ask(place: int) -> bool:
        if place not in known:
            known[place] = passes(place)
        return known[place]

    low, high = -1, count - 1  # low fails, or is below the grid; high passes, or is the last hope
    while high - low > 1:
        middle = (low + high) // 2
        if ask(middle):
            high = middle
        else:
            low = middle
    if not ask(high):
        return None
    for step in (STEPS_A_HALF, STEPS_A_HALF // 2):
        further = high - step
        if len(known) < most and further >= 0 and further not in known and ask(further):
            high = further
    return high
