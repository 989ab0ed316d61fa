"""The mark `<image>` in a text, and how to write the word itself.

A backslash before the mark makes it a word again: `\\<image>` is the text `<image>`. Two
backslashes are one, and the mark stays a mark. Knows nothing of pictures.
"""

import re

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
