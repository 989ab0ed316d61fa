"""When an answer counts as right: exact match after a little tidying."""

import unicodedata
from collections.abc import Iterable


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
