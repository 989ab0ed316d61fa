"""Reads rows from one file: JSON lines, JSON, CSV, Parquet or Arrow.

Yields pairs of where a row is and what it says; a row that cannot be read is a `RowProblem` in its
place, so that all of them can be reported at once. Knows nothing of what rows mean.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

from tasm.demonstrations.arrow import read_arrow, read_parquet
from tasm.demonstrations.file_kinds import SUFFIXES
from tasm.demonstrations.problems import RowProblem, describe
from tasm.errors import DemonstrationError

Rows = Iterator[tuple[str, Any]]

_LARGEST_CELL = 2**31 - 1


def read_json_lines(path: Path) -> Rows:
    """Yield the rows of a file with one JSON object a line; empty lines are passed over. No more
    than one line is held."""
    # By bytes: text's lines also break at characters that JSON allows inside a string.
    for number, data in enumerate(_lines(path), start=1):
        line = _decoded(data, path, number).rstrip("\n")
        if line.strip():
            origin = f"{path}, line {number}"
            try:
                yield origin, parse_json(line)
            except ValueError as error:
                yield origin, RowProblem("", f"no JSON ({error})", "one JSON object a line")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise _unreadable(path, error) from error


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
        raise DemonstrationError(
            f"{path}: found {describe(rows)}; expected a list of objects.{_inner_list(rows)}"
        )
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


def _inner_list(document: Any) -> str:
    """Return a hint where the rows lie one level deeper, as in `{"data": […]}`."""
    if isinstance(document, dict):
        for name, value in document.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                return f" The rows seem to be in {name!r}: save that list alone."
        if {"question", "answer", "messages"} & set(document):
            return " Put the one object into a list: [ … ]."
    return ""


def read_csv(path: Path) -> Rows:
    """Yield the rows of a CSV file with a header; an empty cell is a field that is not there.

    `images` holds several paths separated by `;`, or a JSON list; so may `answer` and `messages`,
    as a JSON list.
    """
    text = _text(path)
    # `question, answer`: the space is for the eye, and no part of the answer.
    spaced = ", " in text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=spaced)
    csv.field_size_limit(_LARGEST_CELL)  # the module's own is too small for a picture in base64
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
        if any(PurePath(name).suffix.lower() in SUFFIXES for name in columns):
            raise DemonstrationError(
                f"{path}, line 1: found a picture where the names of the columns are expected, "
                "such as image,question,answer."
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


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
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
        raise _unreadable(path, error) from error
    return _decoded(data, path, 1)


def _unreadable(path: Path, error: OSError) -> DemonstrationError:
    return DemonstrationError(f"{path} cannot be read: {error.strerror or error}.")


def _decoded(data: bytes, path: Path, line: int) -> str:
    """Text that begins at a line of a file."""
    if line == 1 and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DemonstrationError(
            f"{path}, line 1: found text in UTF-16, which is not UTF-8; expected text in UTF-8. "
            "Save the file in that encoding."
        )
    try:
        return data.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line += data.count(b"\n", 0, error.start)
        raise DemonstrationError(
            f"{path}, line {line}: found the byte 0x{data[error.start]:02x}, which is not UTF-8; "
            "expected text in UTF-8. Save the file in that encoding."
        ) from None


def _cell(name: str, cell: str) -> Any:
    if name in ("images", "messages") or (name == "answer" and cell.lstrip().startswith('["')):
        try:
            listed = parse_json(cell) if cell.lstrip().startswith("[") else None
        except ValueError:
            listed = None
        if isinstance(listed, list):
            return listed
    if name == "images":
        return [path.strip() for path in cell.split(";") if path.strip()]
    return cell
