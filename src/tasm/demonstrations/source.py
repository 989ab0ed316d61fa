"""Finds the rows in what the user gave: a file, a folder, or objects of Python.

Knows where rows lie; knows nothing of what they hold.
"""

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasm.demonstrations.objects import rows_of
from tasm.demonstrations.picture_source import is_on_network, path_in_address
from tasm.demonstrations.problems import RowProblem, shorten
from tasm.errors import DemonstrationError, did_you_mean


@dataclass(frozen=True)
class Found:
    """One row: where it is, for messages, what it says or why it could not be read, its file."""

    origin: str
    row: Any | RowProblem
    file: Path | None = None


@dataclass(frozen=True)
class Source:
    """Rows, the folder at which their relative paths start, and a name for messages.

    `notices` are sentences for the user, complete once the rows were read.
    """

    name: str
    folder: Path
    rows: Iterable[Found]
    notices: Sequence[str] = field(default_factory=list)


def open_source(given: Any, question: str | None) -> Source:
    """Return the rows in `given`.

    `question` is needed for a folder with one sub-folder a class. Raises `DemonstrationError` for
    what holds no rows at all.
    """
    if isinstance(given, str | os.PathLike):
        return _open_path(_path_of(os.fsdecode(given)), question)
    name, rows, file = rows_of(given)
    found = (Found(f"{name}[{place}]", row, file) for place, row in enumerate(rows))
    return Source(name, Path(), found)


def _path_of(text: str) -> Path:
    if not text.strip():
        raise DemonstrationError(
            "Demonstrations: found an empty path; expected a file or a folder, '.' for the "
            "current one."
        )
    if "\0" in text:
        raise DemonstrationError(f"{shorten(text)!r}: found a NUL character; expected a path.")
    if text.partition(":")[0].lower() == "file":
        try:
            return path_in_address(text, "")
        except RowProblem as problem:
            raise DemonstrationError(f"Demonstrations: {problem}.") from None
    if "://" in text or is_on_network(text):
        raise DemonstrationError(
            f"{shorten(text)}: found an address; expected a path. Nothing is fetched from a "
            "network: download it and give its path."
        )
    path = Path(text)
    try:
        return path.expanduser() if text.startswith("~") and not os.path.lexists(path) else path
    except RuntimeError:  # no such user
        return path


def _open_path(path: Path, question: str | None) -> Source:
    # Imported here, so that a list of rows does not load what reads files.
    from tasm.demonstrations.files import READERS
    from tasm.demonstrations.folders import open_folder

    _check_there(path)
    if path.is_dir():
        opened = open_folder(path, question)
        file = Path(opened.name) if opened.name != str(path) else None
        found = (Found(origin, row, file or Path(origin)) for origin, row in opened.rows)
        return Source(opened.name, opened.folder, found, opened.notices)
    if not path.is_file():
        raise DemonstrationError(
            f"{path}: found a device or a pipe; expected a plain file or a folder."
        )
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DemonstrationError(
            f"{path}: found a file {_ending(path)}; expected one of "
            f"{', '.join(READERS)}, or a folder of pictures."
        )
    found = (Found(origin, row, path) for origin, row in reader(path))
    return Source(str(path), path.parent, found)


def _ending(path: Path) -> str:
    return f"that ends in '{path.suffix}'" if path.suffix else "whose name has no ending"


def _check_there(path: Path) -> None:
    """Raise `DemonstrationError` that says what lies there instead."""
    try:
        path.stat()
        return
    except FileNotFoundError:
        pass
    except OSError as error:
        if os.path.islink(path) and error.errno == errno.ELOOP:
            raise DemonstrationError(f"{path}: found a link that leads back to itself.") from None
        raise DemonstrationError(
            f"{str(path)[:200]} cannot be read: {error.strerror or error}."
        ) from None
    except ValueError as error:
        raise DemonstrationError(f"{str(path)[:200]!r} is no path: {error}.") from None
    if os.path.islink(path):
        raise DemonstrationError(
            f"{path}: found a link to '{os.readlink(path)}', which does not exist."
        )
    try:
        siblings = [near.name for near in path.parent.iterdir()]
    except OSError:
        siblings = []
    is_question = path.name.endswith("?")
    hint = " A single question is asked with ask(…, question=…)." if is_question else ""
    raise DemonstrationError(
        f"No such file or folder: '{path}'.{did_you_mean(path.name, siblings)}{hint}"
    )
