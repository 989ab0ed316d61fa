"""Two things timed against each other, fairly: in one process, A B A B, medians.

Knows nothing of models; a device is waited for before a clock is read.
"""

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch


@dataclass(frozen=True)
class Timing:
    """Medians of two things timed in turn, in seconds."""

    first: float
    second: float

    @property
    def ratio(self) -> float:
        """The first's median over the second's."""
        return self.first / self.second


def wait(device: torch.device) -> None:
    """Return when the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return how long one call takes, in seconds, with the device waited for."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def alternate(
    first: Callable[[], object],
    second: Callable[[], object],
    *,
    device: torch.device,
    rounds: int,
    seconds: float = math.inf,
    least: int = 1,
    warm_up: int = 1,
) -> Timing:
    """Time two things in turn, `rounds` times each, after `warm_up` untimed rounds.

    No round begins once `seconds` are spent, but for the `least` number of them.
    Taking turns spreads a machine's drift over both; the median leaves interruptions out. The
    garbage collector runs before each round and never inside a timed call.

    ```python
    >>> alternate(lambda: sum(range(9)), lambda: sum(range(9)), device=cpu, rounds=3).ratio > 0
    True
    ```
    """
    for _ in range(warm_up):
        first()
        second()
    times: tuple[list[float], list[float]] = ([], [])
    was_enabled = gc.isenabled()
    try:
        began = time.perf_counter()
        for number in range(rounds):
            if number >= least and time.perf_counter() - began > seconds:
                break
            gc.collect()
            gc.disable()
            times[0].append(seconds_of(first, device))
            times[1].append(seconds_of(second, device))
            gc.enable()
    finally:
        if was_enabled:
            gc.enable()
        else:
            gc.disable()
    return Timing(median(times[0]), median(times[1]))
