"""Two things timed against each other, fairly: in one process, taking turns, the median of rounds.

Knows nothing of models; a device is waited for before a clock is read.
"""

import gc
import math
import time
from collections.abc import Callable
from statistics import median

import torch


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


def time_ratio(
    first: Callable[[], object],
    second: Callable[[], object],
    *,
    device: torch.device,
    rounds: int,
    seconds: float = math.inf,
    least: int = 1,
    warm_up: int = 1,
) -> float:
    """Return the median of `rounds` rounds of the time that `first` takes over `second`'s, after
    `warm_up` untimed rounds.

    No round begins once `seconds` are spent, but for the `least` number of them. Both are timed in
    every round, and which of them first changes from round to round, so that a machine's drift
    falls on both; the median leaves interruptions out. The garbage collector runs before each round
    and never inside a timed call.

    ```python
    >>> time_ratio(lambda: sum(range(9)), lambda: sum(range(9)), device=cpu, rounds=3) > 0
    True
    ```
    """
    for _ in range(warm_up):
        first()
        second()
    ratios: list[float] = []
    was_enabled = gc.isenabled()
    try:
        began = time.perf_counter()
        for number in range(rounds):
            if number >= least and time.perf_counter() - began > seconds:
                break
            gc.collect()
            gc.disable()
            if number % 2:
                below = seconds_of(second, device)
                above = seconds_of(first, device)
            else:
                above = seconds_of(first, device)
                below = seconds_of(second, device)
            gc.enable()
            ratios.append(above / below)
    finally:
        if was_enabled:
            gc.enable()
        else:
            gc.disable()
    return median(ratios)
