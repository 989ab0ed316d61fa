"""Intervals by resampling: first seeds, then the queries of each drawn seed.

Queries of one seed share their demonstrations, so they are not independent; resampling queries
alone would give intervals that are too narrow. Knows numbers only, nothing of models or suites.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its interval.

    ```python
    >>> interval([[1, 1], [1, 1]])
    Interval(mean=1.0, low=1.0, high=1.0)
    ```
    """

    mean: float
    low: float
    high: float


def interval(
    groups: Sequence[Sequence[float]], *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Return the mean over all values of all groups with its 95 % percentile interval.

    `groups` holds one sequence of values a seed. A resample draws as many groups as there are,
    with replacement, then from each drawn group as many values as it has, with replacement
    (the two-stage bootstrap of Davison and Hinkley 1997, section 3.8). One group alone leaves
    the queries as the only source of chance.

    ```python
    >>> interval([[0.0, 1.0], [1.0, 1.0]]).mean
    0.75
    ```

    Raises:
        ValueError: if there is no value.
    """
    return _ends(_values(groups).mean(), resampled_means(groups, resamples=resamples, seed=seed))


def resampled_means(
    groups: Sequence[Sequence[float]], *, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Return the `(resamples,)` means of the resamples that `interval` takes its ends from.

    Raises:
        ValueError: if there is no value.
    """
    arrays = _arrays(groups)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(arrays), size=(resamples, len(arrays)))
    sums = np.zeros(resamples)
    counts = np.zeros(resamples)
    for index, values in enumerate(arrays):
        times = (drawn == index).sum(axis=1)
        picked = values[generator.integers(len(values), size=(int(times.sum()), len(values)))]
        sums += np.bincount(
            np.repeat(np.arange(resamples), times), weights=picked.sum(axis=1), minlength=resamples
        )
        counts += times * len(values)
    means: np.ndarray = sums / counts
    return means


def interval_over_suites(
    suites: Sequence[Sequence[Sequence[float]]], *, resamples: int = RESAMPLES
) -> Interval:
    """Return the mean of the suites' means with its interval.

    The suites are fixed, not drawn: each is resampled for itself (seeds, then queries) and the
    resampled means are averaged.

    ```python
    >>> interval_over_suites([[[1.0, 1.0]], [[0.0]]])
    Interval(mean=0.5, low=0.5, high=0.5)
    ```
    """
    drawn = [
        resampled_means(groups, resamples=resamples, seed=number)
        for number, groups in enumerate(suites)
    ]
    means = [float(_values(groups).mean()) for groups in suites]
    return _ends(float(np.mean(means)), np.mean(drawn, axis=0))


def _values(groups: Sequence[Sequence[float]]) -> np.ndarray:
    return np.concatenate(_arrays(groups))


def _arrays(groups: Sequence[Sequence[float]]) -> list[np.ndarray]:
    arrays = [np.asarray(group, dtype=np.float64) for group in groups if len(group)]
    if not arrays:
        raise ValueError("an interval needs at least one value")
    return arrays


def _ends(mean: float, resampled: np.ndarray) -> Interval:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(float(mean), float(low), float(high))


def paired_interval(
    groups: Sequence[Sequence[float]],
    against: Sequence[Sequence[float]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the interval of the difference, value by value, of two measurements.

    `groups` and `against` hold the same seeds and queries in the same order, so what makes one
    query harder than another cancels.

    ```python
    >>> paired_interval([[1, 0]], [[1, 1]]).mean
    -0.5
    ```

    Raises:
        ValueError: if the two do not hold the same number of values a seed.
    """
    if [len(group) for group in groups] != [len(group) for group in against]:
        raise ValueError("paired measurements must hold the same seeds and queries")
    differences = [
        [a - b for a, b in zip(left, right, strict=True)]
        for left, right in zip(groups, against, strict=True)
    ]
    return interval(differences, resamples=resamples, seed=seed)
