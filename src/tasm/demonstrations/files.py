"""Reads rows from one file: JSON lines, JSON, CSV or Parquet.

Yields pairs of where a row is and what it says; a row that cannot be read is a `RowProblem` in its
place, so that all of them can be reported at once. Knows nothing of what rows mean.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tasm.demonstrations.problems import RowProblem, describe
from tasm.errors import DemonstrationError

Rows = Iterator[tuple[str, Any]]


def read_json_lines(path: Path) -> Rows:
    """Yield the rows of a file with one JSON object a line; empty lines are passed over."""
    # Not splitlines(): it also breaks at characters that JSON allows inside a string.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            origin = f"{path}, line {number}"
            try:
                yield origin, parse_json(line)
            except ValueError as error:
                yield origin, RowProblem("", f"no JSON ({error})", "one JSON object a line")


def read_json(path: Path) -> Rows:
    """Yield the rows of a file that holds one JSON list."""
    text = _text(path)
    if not text.strip():
        return
    try:
        rows = parse_json(text)
    except ValueError as error:
        raise DemonstrationError(
            f"{path}: found no JSON ({error}); expected a list of objects. A file with one object "
            "a line is named .jsonl."
        ) from None
    if not isinstance(rows, list):
        raise DemonstrationError(f"{path}: found {describe(rows)}; expected a list of objects.")
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


def read_csv(path: Path) -> Rows:
    """Yield the rows of a CSV file with a header; an empty cell is a field that is not there.

    `images` holds several paths separated by `;`, or a JSON list; so may `answer`, as a JSON list.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        columns = [name.strip() for name in header]
        repeated = [name for name in columns if name and columns.count(name) > 1]
        if repeated:
            raise DemonstrationError(f"{path}, line 1: column '{repeated[0]}' appears twice.")
        if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
            raise DemonstrationError(
                f"{path}, line 1: found one column {columns[0]!r}; expected columns separated by "
                "commas."
            )
        first = reader.line_num + 1
        for cells in reader:
            origin, first = f"{path}, line {first}", reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                yield origin, RowProblem("", f"{len(cells)} cells", f"{len(columns)}, as in line 1")
                continue
            named = dict(zip(columns, cells, strict=True))
            yield origin, {name: _cell(name, cell) for name, cell in named.items() if cell != ""}
    except csv.Error as error:
        raise DemonstrationError(
            f"{path}, line {reader.line_num}: found no CSV ({error}); expected cells separated by "
            'commas, those with commas or line breaks in "quotes".'
        ) from None


def read_parquet(path: Path) -> Rows:
    """Yield the rows of a Parquet file; needs the extra `data`."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DemonstrationError(
            f"{path}: reading Parquet needs pyarrow. Install it with: pip install 'tasm[data]'"
        ) from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (ArrowException, OSError) as error:
        raise DemonstrationError(
            f"{path}: found a file that is no Parquet, or damaged ({error})."
        ) from None


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


def parse_json(text: str) -> Any:
    """Return what JSON text says; `ValueError` also for a name that appears twice in an object."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the field {twice!r} appears twice")
        return row

    try:
        return json.loads(text, object_pairs_hook=once)
    except RecursionError:
        raise ValueError("too deeply nested") from None


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DemonstrationError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DemonstrationError(
            f"{path}, line {line}: found the byte 0x{data[error.start]:02x}, which is not UTF-8; "
            "expected text in UTF-8. Save the file in that encoding."
        ) from None


def _cell(name: str, cell: str) -> Any:
    if name == "images" or (name == "answer" and cell.lstrip().startswith('["')):
        try:
            listed = parse_json(cell) if cell.lstrip().startswith("[") else None
        except ValueError:
            listed = None
        if isinstance(listed, list):
            return listed
    if name == "images":
        return [path.strip() for path in cell.split(";") if path.strip()]
    return cell
