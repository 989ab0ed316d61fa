"""Puts pictures where `<image>` stands in a text."""

from tasm.demonstrations.mark_text import IMAGE_MARK, split_at_marks
from tasm.demonstrations.picture import Picture
from tasm.demonstrations.problems import RowProblem


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
