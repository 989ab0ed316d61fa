"""How far confidences are from the truth. Knows numbers only."""

from collections.abc import Sequence

BINS = 10


def calibration_error(
    confidences: Sequence[float | None], correct: Sequence[bool], *, bins: int = BINS
) -> float | None:
    """Return the expected calibration error (Naeini et al. 2015), None where nothing is known.

    Answers are put into `bins` of equal width by their confidence; in each, the mean confidence is
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
        place = min(int(confidence * bins), bins - 1)
        sums[place] = sums.get(place, 0.0) + confidence - right
    return sum(map(abs, sums.values())) / len(known)
