"""The mark `<image>` in a text: how to write the word itself, and pictures put in its place.

A backslash before the mark makes it a word again: `\\<image>` is the text `<image>`. Two
backslashes are one, and the mark stays a mark.
"""

import re

from tasm.demonstrations.picture import Picture
from tasm.demonstrations.problems import RowProblem

IMAGE_MARK = "<image>"
"""Stands in a question where a picture stands."""

_MARK = re.compile(rf"(\\*){re.escape(IMAGE_MARK)}")


def split_at_marks(text: str) -> list[str]:
    r"""Return the pieces of a text between its marks, escaped marks as the text they mean.

    ```python
    >>> split_at_marks(r"Is <image> called \<image>?")
    ['Is ', ' called <image>?']
    ```
    """
    pieces = [""]
    position = 0
    for found in _MARK.finditer(text):
        backslashes = len(found[1])
        pieces[-1] += text[position : found.start()] + "\\" * (backslashes // 2)
        if backslashes % 2:
            pieces[-1] += IMAGE_MARK
        else:
            pieces.append("")
        position = found.end()
    pieces[-1] += text[position:]
    return pieces


def escape_marks(text: str) -> str:
    r"""Return a text in which `<image>` is no mark: the inverse of `split_at_marks`.

    ```python
    >>> escape_marks("What does <image> mean?")
    'What does \\<image> mean?'
    ```
    """
    return _MARK.sub(lambda found: found[1] * 2 + "\\" + IMAGE_MARK, text)


class Marks:
    """A row's pictures, handed out one by one to the marks of its texts.

    ```python
    marks = Marks([first, second])
    marks.place("Is <image> older than <image>?", "question")
    # ('Is ', first, ' older than ', second, '?')
    ```
    """

    def __init__(self, pictures: tuple[Picture, ...]) -> None:
        self._pictures = pictures
        self._placed = 0

    @property
    def any_found(self) -> bool:
        """Whether a mark was met so far."""
        return self._placed > 0

    def take(self, field: str) -> Picture:
        """Return the next picture; `RowProblem` when there is none left."""
        if self._placed == len(self._pictures):
            raise RowProblem(
                field,
                f"a place for picture {self._placed + 1}",
                f"as many as there are pictures, {len(self._pictures)}",
            )
        self._placed += 1
        return self._pictures[self._placed - 1]

    def place(self, text: str, field: str) -> tuple[str | Picture, ...]:
        """Return `text` split at its marks, with the next pictures between the pieces."""
        first, *others = split_at_marks(text)
        if self._placed + len(others) > len(self._pictures):
            raise self._mismatch(field, self._placed + len(others))
        content: list[str | Picture] = [first]
        for piece in others:
            content += [self.take(field), piece]
        return tuple(part for part in content if part != "")

    def check_all_placed(self, field: str) -> None:
        """Raise `RowProblem` when there were marks, but fewer than pictures."""
        if 0 < self._placed < len(self._pictures):
            raise self._mismatch(field, self._placed)

    def _mismatch(self, field: str, marks: int) -> RowProblem:
        count = len(self._pictures)
        pictures = f"{count} picture{'' if count == 1 else 's'}" if count else "no picture"
        return RowProblem(
            field,
            f"{marks} × {IMAGE_MARK} and {pictures}",
            f"one {IMAGE_MARK} for each picture; or none, and the pictures come first. Where the "
            f"text speaks of {IMAGE_MARK} itself, write \\{IMAGE_MARK}",
        )
