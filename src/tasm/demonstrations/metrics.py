"""How near an answer is to the accepted ones: plain text in, a number between 0 and 1 out.

`exact` is what every figure of tasm means unless another is named. Knows nothing of models.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

Metric = Callable[[str, Sequence[str]], float]

_PUNCTUATION = re.compile(r"[^\w\s]")
_NUMBER = re.compile(
    r"(?:(?<![\w.])[-+−])?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
)
_LETTER = re.compile(r"(?<![A-Za-z])([A-H])(?![A-Za-z])")
_SMALL_LETTER = re.compile(r"(?<![A-Za-z])([a-h])(?![A-Za-z])")
_CLOSE = 1e-6


def normalise_answer(text: str) -> str:
    """Return `text` as it is compared: NFC, case folded, white space collapsed, one full stop less.

    ```python
    >>> normalise_answer("  A  Wren. ")
    'a wren'
    ```
    """
    # Folding can take a composed character apart, hence the second NFC.
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(folded.split()).removesuffix(".").rstrip()


def is_correct(text: str, answers: Iterable[str]) -> bool:
    """Whether `text` is one of the accepted answers, both normalised.

    ```python
    >>> is_correct("Wren.", ["wren", "house wren"])
    True
    ```
    """
    accepted = [answers] if isinstance(answers, str) else answers
    found = normalise_answer(text)
    return any(normalise_answer(answer) == found for answer in accepted)


def exact(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 where the prediction is one of the answers, case and final stop aside."""
    return float(is_correct(prediction, answers))


def contains(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 where an answer stands, as whole words, in the prediction.

    ```python
    >>> contains("It shows a house wren.", ["wren."])
    1.0
    ```
    """
    said = f" {words_of(prediction)} "
    return float(any(f" {words_of(answer)} " in said for answer in answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the best harmonic mean of precision and recall over words (Rajpurkar et al. 2016).

    ```python
    >>> f1("a small wren", ["small wren"])
    0.8
    ```
    """
    return max((_f1(words_of(prediction), words_of(answer)) for answer in answers), default=0.0)


def number(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 where the last number of the prediction is that of an answer; "1,200" is 1200.

    ```python
    >>> number("That makes 1,200 birds.", ["1200"])
    1.0
    ```
    """
    said = _last_number(prediction)
    wanted = [found for found in map(_last_number, answers) if found is not None]
    return float(
        said is not None
        and any(math.isclose(said, one, rel_tol=_CLOSE, abs_tol=_CLOSE * 1e-3) for one in wanted)
    )


def choice(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 where the letter that the prediction names, A to H, is the right one.

    The first lone capital counts; without one the last lone small letter, so that the article in
    "it is a wren: b" is not taken for an answer.
    """
    capitals, small = _LETTER.findall(prediction), _SMALL_LETTER.findall(prediction)
    named = capitals[0] if capitals else small[-1].upper() if small else ""
    return float(named in {answer.strip("(). ").upper() for answer in answers})


METRICS: dict[str, Metric] = {
    "exact": exact,
    "contains": contains,
    "f1": f1,
    "number": number,
    "choice": choice,
}
"""Metrics by the names that `--metric` takes."""


def words_of(text: str) -> str:
    """Return a text's words as they are compared, punctuation left out."""
    return " ".join(_PUNCTUATION.sub(" ", normalise_answer(text)).split())


def _f1(said: str, wanted: str) -> float:
    first, second = Counter(said.split()), Counter(wanted.split())
    shared = (first & second).total()
    return 2 * shared / (first.total() + second.total()) if shared else 0.0


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "").replace("−", "-")) if found else None
