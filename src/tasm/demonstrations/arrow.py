"""Reads rows from Parquet and Arrow files and tables, as the `datasets` library writes them too.

The names of classes lie in the schema; without them an answer would be a number that means nothing.
Needs pyarrow, the extra `data`; knows nothing of what rows mean.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tasm.errors import DemonstrationError

Rows = Iterator[tuple[str, Any]]
_AT_ONCE = 64


def read_parquet(path: Path) -> Rows:
    """Yield the rows of a Parquet file."""
    _pyarrow(path)
    from pyarrow import parquet

    def batches() -> Iterator[Any]:
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=_AT_ONCE)

    return _rows(path, "Parquet", batches)


def read_arrow(path: Path) -> Rows:
    """Yield the rows of an Arrow file, such as the `datasets` library keeps in its cache."""
    arrow = _pyarrow(path)

    def batches() -> Iterator[Any]:
        with arrow.OSFile(str(path), "rb") as file:
            is_file = file.read(6) == b"ARROW1"
            file.seek(0)
            if not is_file:
                yield from arrow.ipc.open_stream(file)
                return
            reader = arrow.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)

    return _rows(path, "Arrow file", batches)


def rows_of_table(table: Any) -> Iterator[Any]:
    """Yield the rows of a `pyarrow.Table` or of one of its batches, classes by their names."""
    names = _class_names(table.schema)
    for start in range(0, table.num_rows, _AT_ONCE):
        for row in table.slice(start, _AT_ONCE).to_pylist():
            for column, labels in names.items():
                row[column] = _named(row[column], labels)
            yield row


def _rows(path: Path, kind: str, batches: Callable[[], Iterator[Any]]) -> Rows:
    number = 0
    try:
        for batch in batches():
            batch.validate(full=True)  # a damaged one would be read past its end, into a crash
            for row in rows_of_table(batch):
                number += 1
                yield f"{path}, row {number}", row
    except DemonstrationError:
        raise
    except Exception as error:  # on damaged data also what is no error of pyarrow's
        raise DemonstrationError(
            f"{path}: found a file that is no {kind}, or damaged ({error})."
        ) from None


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise DemonstrationError(
            f"{path}: reading Parquet needs pyarrow. Install it with: pip install 'tasm[data]'"
        ) from None
    return pyarrow


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Return the names of each column of class labels, out of what `datasets` adds to a schema."""
    try:
        document = json.loads((schema.metadata or {})[b"huggingface"])
        features = document["info"]["features"].items()
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    found = {}
    for column, feature in features:
        while isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
            feature = feature["feature"]  # a list of class labels
        if isinstance(feature, list) and len(feature) == 1:
            (feature,) = feature
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            found[column] = [str(name) for name in feature.get("names") or []]
    return {column: names for column, names in found.items() if column in schema.names}


def _named(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    if isinstance(value, int) and value < 0:  # how `datasets` writes that there is no label
        return None
    return names[value] if isinstance(value, int) and value < len(names) else value
