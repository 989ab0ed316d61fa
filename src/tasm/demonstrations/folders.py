"""Reads rows from a folder of pictures, in the layouts of Hugging Face's ImageFolder.

Either `metadata.jsonl` or `metadata.csv` names each picture in `file_name`, or every sub-folder is
a class and its name the answer. Knows nothing of what rows mean.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasm.demonstrations.files import READERS, Rows
from tasm.demonstrations.pixels import SUFFIXES
from tasm.demonstrations.problems import RowProblem
from tasm.errors import DemonstrationError

_METADATA = ("metadata.jsonl", "metadata.csv")


def open_folder(folder: Path, question: str | None) -> tuple[str, Path, Rows]:
    """Return a name for messages, where relative paths start, and the rows.

    Raises `DemonstrationError` for a folder in neither layout, and for classes without a question.
    """
    present = [folder / name for name in _METADATA if (folder / name).is_file()]
    if len(present) > 1:
        raise DemonstrationError(
            f"{folder}: found {' and '.join(_METADATA)}; expected one of them."
        )
    if present:
        return str(present[0]), folder, _with_file_names(present[0])
    if (folder / "memory.json").is_file():
        raise DemonstrationError(
            f"{folder} is a task memory already; expected demonstrations to build one from."
        )
    classes = sorted(
        child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")
    )
    if not classes:
        raise DemonstrationError(
            f"{folder}: found neither {' nor '.join(_METADATA)} nor sub-folders; expected a "
            "metadata file that names each picture in 'file_name', or one sub-folder a class."
            + _rows_in(folder)
        )
    if question is None:
        raise DemonstrationError(
            f"{folder}: found one sub-folder a class ({classes[0].name}, …) and no question; "
            'expected --question, such as --question "Which class is this?".' + _rows_in(folder)
        )
    return str(folder), Path(), _classes(classes, question)


def _rows_in(folder: Path) -> str:
    """Return a hint at a file of rows, where the folder holds one: it may have been meant."""
    files = sorted(child for child in folder.iterdir() if child.suffix in {".jsonl", ".csv"})
    return f" Did you mean the file {files[0]}?" if files else ""


def _with_file_names(metadata: Path) -> Rows:
    for origin, row in READERS[metadata.suffix](metadata):
        if isinstance(row, dict) and not row.get("file_name"):
            row = RowProblem("file_name", "no such field", "the picture's path in this folder")
        yield origin, row


def _classes(classes: list[Path], question: str) -> Iterator[tuple[str, Any]]:
    for folder in classes:
        pictures = [
            path
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        ]
        if not pictures:
            yield str(folder), RowProblem("", "no picture in this class", "at least one picture")
        for path in pictures:
            yield str(path), {"image": path, "question": question, "answer": folder.name}
