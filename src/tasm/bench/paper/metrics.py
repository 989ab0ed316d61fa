"""How the published benchmarks judge an answer. Plain text in, a number between 0 and 1 out."""

import re
from collections.abc import Callable, Sequence

from tasm.demonstrations.metrics import choice, contains, exact, words_of

_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_NUMBER_WORDS = dict(
    zip("zero one two three four five six seven eight nine ten".split(), range(11), strict=True)
)
IOU_LIMIT = 0.5

Box = tuple[float, float, float, float]


def vqa(prediction: str, answers: Sequence[str]) -> float:
    """Return VQA accuracy: the mean over all but one person of min(agreeing others / 3, 1).

    Antol et al. 2015 (arXiv 1505.00468), with the customary normalisation: lower case, articles
    and punctuation away, number words as digits.

    ```python
    >>> vqa("two", ["2", "2", "2", "3"])
    0.75
    ```
    """
    said = _vqa_form(prediction)
    forms = [_vqa_form(answer) for answer in answers]
    if len(forms) < 2:
        return float(said in forms)
    shares = [
        min(sum(other == said for other in forms[:left] + forms[left + 1 :]) / 3, 1)
        for left in range(len(forms))
    ]
    return sum(shares) / len(shares)


def iou_at_half(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 where the predicted box covers the right one by an IoU of one half or more."""
    said = read_box(prediction)
    boxes = [box for box in map(read_box, answers) if box is not None]
    return float(said is not None and any(iou(said, box) >= IOU_LIMIT for box in boxes))


def read_box(text: str) -> Box | None:
    """Return the first four numbers of a text as corners, None where there are fewer."""
    numbers = [float(found) for found in _NUMBER.findall(text)[:4]]
    if len(numbers) < 4:
        return None
    x1, y1, x2, y2 = numbers
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def iou(first: Box, second: Box) -> float:
    """Return intersection over union of two boxes given by corners; 0 where both are empty.

    ```python
    >>> iou((0, 0, 1, 1), (0, 0, 1, 0.5))
    0.5
    ```
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = _area(first) + _area(second) - shared
    return shared / union if union > 0 else 0.0


METRICS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "exact": exact,
    "contains": contains,
    "letter": choice,
    "vqa": vqa,
    "iou@0.5": iou_at_half,
}
"""Metrics by the names that benchmarks use."""


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _vqa_form(text: str) -> str:
    words = _ARTICLE.sub(" ", words_of(text)).split()
    return " ".join(str(_NUMBER_WORDS.get(word, word)) for word in words)
