"""Finds the rows in what the user gave: a file, a folder, a list, a `datasets` object.

Knows where rows lie; knows nothing of what they hold.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasm.demonstrations.problems import RowProblem, describe
from tasm.errors import DemonstrationError, did_you_mean


@dataclass(frozen=True)
class Found:
    """One row: where it is, for messages, and what it says, or why it could not be read."""

    origin: str
    row: Any | RowProblem


@dataclass(frozen=True)
class Source:
    """Rows, the folder at which their relative paths start, and a name for messages."""

    name: str
    folder: Path
    rows: Iterable[Found]


def open_source(given: Any, question: str | None) -> Source:
    """Return the rows in `given`.

    `question` is needed for a folder with one sub-folder a class. Raises `DemonstrationError` for
    what holds no rows at all.
    """
    if isinstance(given, str | Path):
        return _open_path(Path(given), question)
    if isinstance(given, Mapping):
        hint = "choose one of its splits" if hasattr(given, "column_names") else "wrap it in a list"
        raise DemonstrationError(
            f"Demonstrations: found {describe(given)}; expected a list of rows: {hint}."
        )
    if hasattr(given, "column_names"):
        return Source("dataset", Path(), _numbered("dataset", _undecoded(given)))
    if isinstance(given, Iterable) and not isinstance(given, bytes):
        return Source("demonstrations", Path(), _numbered("demonstrations", given))
    raise DemonstrationError(
        f"Demonstrations: found {describe(given)}; expected a path, a list of rows or a Dataset of "
        "the datasets library."
    )


def _open_path(path: Path, question: str | None) -> Source:
    # Imported here, so that a list of rows does not load what reads files.
    from tasm.demonstrations.files import READERS
    from tasm.demonstrations.folders import open_folder

    if not path.exists():
        siblings = [near.name for near in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DemonstrationError(
            f"No such file or folder: '{path}'.{did_you_mean(path.name, siblings)}"
        )
    if path.is_dir():
        name, folder, rows = open_folder(path, question)
        return Source(name, folder, (Found(*pair) for pair in rows))
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DemonstrationError(
            f"{path}: found a file that ends in '{path.suffix}'; expected one of "
            f"{', '.join(READERS)}, or a folder of pictures."
        )
    if not path.is_file():
        raise DemonstrationError(f"{path}: expected a plain file.")
    return Source(str(path), path.parent, (Found(*pair) for pair in reader(path)))


def _numbered(name: str, rows: Iterable[Any]) -> Iterator[Found]:
    for place, row in enumerate(rows):
        yield Found(f"{name}[{place}]", row)


def _undecoded(dataset: Any) -> Iterator[Any]:
    """Yield a dataset's rows, its pictures as the bytes they came in, its classes as names."""
    features: dict[str, Any] = getattr(dataset, "features", None) or {}
    names = {}
    for column, feature in features.items():
        kind = type(feature).__name__
        inner: Any = getattr(feature, "feature", None)
        # Decoded pictures would all be held at once; bytes are decoded one at a time.
        if kind == "Image":
            dataset = dataset.cast_column(column, type(feature)(decode=False))
        elif type(inner).__name__ == "Image":
            dataset = dataset.cast_column(column, type(feature)(type(inner)(decode=False)))
        elif kind == "ClassLabel":
            names[column] = feature.int2str
    for row in dataset:
        for column, name_of in names.items():
            if isinstance(row[column], int) and row[column] >= 0:
                row[column] = name_of(row[column])
        yield row
