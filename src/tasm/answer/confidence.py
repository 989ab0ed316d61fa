"""How far confidences are from the truth, and what sets them right. Knows numbers only."""

from collections.abc import Sequence

import torch
from torch import Tensor

_BINS = 10
_LARGEST_TEMPERATURE = 20.0


def calibration_error(confidences: Sequence[float | None], correct: Sequence[bool]) -> float | None:
    """Return the expected calibration error (Naeini et al. 2015), None where nothing is known.

    Answers are put into `_BINS` of equal width by their confidence; in each, the mean confidence is
    compared with the share that is right; the mean of the differences weighs bins by their answers.

    ```python
    >>> calibration_error([0.9, 0.9], [True, False])
    0.4
    ```
    """
    known = [
        (one, right) for one, right in zip(confidences, correct, strict=True) if one is not None
    ]
    if not known:
        return None
    sums: dict[int, float] = {}
    for confidence, right in known:
        place = min(int(confidence * _BINS), _BINS - 1)
        sums[place] = sums.get(place, 0.0) + confidence - right
    return sum(map(abs, sums.values())) / len(known)


def fit_temperature(log_probabilities: Tensor, right: Sequence[int]) -> float:
    """Return the temperature at which labels' scores are least surprised by the right ones.

    `log_probabilities` is (rows, labels), `right` each row's right label. Guo et al. (ICML 2017)
    with a prior: the squared logarithm of the temperature counts as much as a row's surprise, so
    that a few rows that are all right do not make the model surer than it was.

    ```python
    >>> fit_temperature(torch.tensor([[0.0, -9.0], [0.0, -9.0]]), [0, 1]) > 2
    True
    ```
    """
    candidates = torch.logspace(-1, torch.tensor(_LARGEST_TEMPERATURE).log10(), 100).double()
    scores = log_probabilities.double()[None] / candidates[:, None, None]
    places = torch.arange(len(right))
    surprise = -scores.log_softmax(-1)[:, places, list(right)].sum(1)
    return float(candidates[(surprise + candidates.log() ** 2).argmin()])


def sureness(log_probabilities: Sequence[float]) -> float:
    """Return the mean log-probability a token, so that long answers can be compared with short."""
    return sum(log_probabilities) / len(log_probabilities)


def doubt(log_probabilities: Sequence[float], known: Sequence[float]) -> float | None:
    """Return the share of `known` surenesses that an answer does not reach, a tie half; None where
    nothing is known.

    ```python
    >>> doubt([-2.0, -4.0], [-0.1, -0.2, -3.5, -3.0])
    0.625
    ```
    """
    if not known or not log_probabilities:
        return None
    own = sureness(log_probabilities)
    return (sum(one > own for one in known) + sum(one == own for one in known) / 2) / len(known)
