"""Demonstrations of whatever people have: files, folders, rows in Python."""

import os
from collections.abc import Callable, Iterator
from typing import Any

from tasm.arguments import flag, path, text, unheard
from tasm.compress.settings import warn
from tasm.demonstrations import Demonstration, read_demonstrations
from tasm.errors import InputError


def as_demonstrations(
    demonstrations: Any,
    *,
    question: str | None = None,
    skip_bad_rows: bool = False,
    notice: Callable[[str], None] | None = warn,
) -> list[Demonstration]:
    """Return demonstrations of whatever `build` takes; those that are read already stay as they
    are."""
    if question is not None:
        text(question, "question")
    flag(skip_bad_rows, "skip_bad_rows")
    if demonstrations is None:
        raise InputError(
            "demonstrations is None; expected a file, a folder, rows in Python or Demonstrations."
        )
    if isinstance(demonstrations, Demonstration):
        return [demonstrations]
    if isinstance(demonstrations, str | os.PathLike):
        demonstrations = path(demonstrations, "demonstrations", "a file or folder of them")
    elif isinstance(demonstrations, list | tuple | Iterator):
        demonstrations = list(demonstrations)  # an iterator gives its rows once only
        if are_read(demonstrations):
            return demonstrations
    return list(
        read_demonstrations(
            demonstrations,
            question=question,
            skip_bad_rows=skip_bad_rows,
            warn=notice or unheard,
        )
    )


def are_read(demonstrations: Any) -> bool:
    """Whether these are demonstrations that are held already, at least one."""
    if isinstance(demonstrations, Demonstration):
        return True
    listed = isinstance(demonstrations, list | tuple) and len(demonstrations) > 0
    return listed and all(isinstance(one, Demonstration) for one in demonstrations)
