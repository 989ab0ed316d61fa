"""Reads demonstrations and queries: all rows checked, every bad one named, identities given.

Knows what makes a set of rows sound; what one row means is the business of `rows`.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from tasm.demonstrations.conversation import (
    DEFAULT_ID_LENGTH,
    Demonstration,
    Message,
    Query,
    content_hash,
)
from tasm.demonstrations.oddities import warn_of_contradictions, warn_of_one_answer
from tasm.demonstrations.picture_source import is_one
from tasm.demonstrations.problems import RowProblem, describe, listed
from tasm.demonstrations.renaming import similar_field
from tasm.demonstrations.rows import FIELDS, Row, other_names, parse_row
from tasm.demonstrations.source import Found, open_source
from tasm.errors import DemonstrationError

_WAY_OUT = "Correct what is wrong, or leave it out with --skip-bad-rows (skip_bad_rows=True)."

Warn = Callable[[str], None]
Progress = Callable[[str, int, int], None]
Read = TypeVar("Read", Demonstration, Query)


def warn_in_python(message: str) -> None:
    """Pass a message to Python's `warnings`; the command line has its own way."""
    warnings.warn(message, UserWarning, stacklevel=4)


def read_demonstrations(
    source: Any,
    *,
    question: str | None = None,
    skip_bad_rows: bool = False,
    warn: Warn = warn_in_python,
    progress: Progress | None = None,
) -> list[Demonstration]:
    """Read solved examples from a file, a folder, or rows in Python.

    ```python
    read_demonstrations("birds.jsonl")
    read_demonstrations("birds/", question="Which bird is this?")     # one sub-folder a class
    read_demonstrations([{"image": "wren.png", "question": "Which bird?", "answer": "wren"}])
    ```

    Rows in Python are a list or a generator of dicts, one dict, a dict of columns, a `datasets`
    Dataset, a DataFrame, a table of pyarrow, or `Demonstration`s, which stay as they are.

    `question` stands in for rows that have none. All pictures are decoded once, for their
    identity. A row with the same content as an earlier one is left out, and `warn` is called with
    a sentence; so it is for files of a folder that are passed over, for rows that contradict each
    other and for one answer that most rows have. With `skip_bad_rows` bad rows are left out in the
    same way. `progress` is called with a stage, the rows read so far and their number.

    Raises `DemonstrationError` that names every bad row (file, line, field, what was found, what
    is expected), for two rows with one id, and for a set without any demonstration.
    """
    read = _read_all(source, question, demonstration_of, skip_bad_rows, warn, progress)
    kept = _without_duplicates(read, warn)
    _check_ids(kept)
    warn_of_contradictions(kept, warn)
    warn_of_one_answer(kept, warn)
    return kept


def read_queries(
    source: Any,
    *,
    question: str | None = None,
    skip_bad_rows: bool = False,
    warn: Warn = warn_in_python,
    progress: Progress | None = None,
) -> list[Query]:
    """Read questions from the same places and in the same form as demonstrations.

    `Query`s stay as they are; of a `Demonstration` the question is asked, its answer the right one.

    ```python
    read_queries("test.jsonl")[0].answers      # ('wren', 'house wren'); () where there is none
    ```

    An `answer` may be missing, a string, or a list of accepted strings; of a chat that ends with
    the assistant's message, that message is the answer. Two rows with the same content both stay,
    so that every row gets its answer.

    Raises `DemonstrationError` as `read_demonstrations` does.
    """
    read = _read_all(source, question, _query, skip_bad_rows, warn, progress)
    numbered = list(_with_repeats_numbered(read))
    _check_ids(numbered)
    return numbered


def make_query(question: str, images: Any = ()) -> Query:
    """Return one query; `<image>` in the question says where an image stands, else they come first.

    ```python
    make_query("Which bird is this?", images=["x.png"])
    ```

    `images` is one picture or a list of them: paths, bytes, PIL images, arrays.

    Raises `DemonstrationError` for a picture that cannot be read and for a question that is empty
    or has another number of `<image>` marks than there are images.
    """
    if not isinstance(question, str):
        raise DemonstrationError(
            f"Query, field 'question': found {describe(question)}; expected a string that is not "
            "empty."
        )
    several = [] if images is None else [images] if is_one(images) else list(images)
    try:
        return _query(Found("", {"images": several, "question": question}), Path(), None)
    except RowProblem as problem:
        raise DemonstrationError(f"Query, {problem}.") from None


def _read_all(
    source: Any,
    question: str | None,
    read_row: Callable[[Found, Path, str | None], Read],
    skip_bad_rows: bool,
    warn: Warn,
    progress: Progress | None,
) -> list[Read]:
    check_question(question)
    opened = open_source(source, question)
    rows = list(opened.rows)
    for notice in opened.notices:
        warn(notice)
    read: list[Read] = []
    bad: list[str] = []
    for done, found in enumerate(rows, start=1):
        try:
            read.append(read_row(found, opened.folder, question))
        except RowProblem as problem:
            bad.append(f"{found.origin}, {problem}")
        if progress is not None:
            progress("Reading", done, len(rows))
    if bad:
        report_bad_rows(bad, len(rows), opened.name, skip_bad_rows, warn)
    if not read:
        raise no_rows(opened.name)
    return read


def no_rows(name: str) -> DemonstrationError:
    """The error of a source that holds nothing."""
    return DemonstrationError(f"{name}: found no rows to use; expected at least one.")


def check_question(question: str | None) -> None:
    """Raise DemonstrationError for a question that is no text."""
    if question is not None and (not isinstance(question, str) or not question.strip()):
        raise DemonstrationError(
            f"question: found {describe(question)}; expected a string that is not empty."
        )


def demonstration_of(found: Found, folder: Path, question: str | None) -> Demonstration:
    """Return what a row says; raises RowProblem."""
    if isinstance(found.row, Demonstration):
        return found.row
    if isinstance(found.row, Query):
        raise RowProblem("", "a Query, which has no answer of its own", "a Demonstration or a row")
    row = _parse(found, folder, question)
    if not row.answers and isinstance(found.row, Mapping):
        others = [name for name in found.row if name not in FIELDS]
        name = similar_field(others, "answer")
        if name is not None:
            raise other_names({"answer": name})
    if len(row.answers) != 1:
        raise RowProblem("answer", "several" if row.answers else "no such field", "one string")
    messages = (*row.messages, Message("assistant", row.answers))
    whole = content_hash(messages)
    return Demonstration(
        row.id or whole[:DEFAULT_ID_LENGTH], messages, whole, found.origin, found.file
    )


def _query(found: Found, folder: Path, question: str | None) -> Query:
    if isinstance(found.row, Query):
        return found.row
    if isinstance(found.row, Demonstration):
        asked = found.row.messages[:-1]
        return Query(found.row.id, asked, (found.row.answer,), found.row.origin)
    row = _parse(found, folder, question)
    default = content_hash(row.messages)[:DEFAULT_ID_LENGTH]
    return Query(row.id or default, row.messages, row.answers, found.origin)


def _parse(found: Found, folder: Path, question: str | None) -> Row:
    if isinstance(found.row, RowProblem):
        raise found.row
    return parse_row(found.row, folder, question)


def report_bad_rows(bad: list[str], rows: int, name: str, skip_bad_rows: bool, warn: Warn) -> None:
    """Warn of rows that are left out, or raise DemonstrationError."""
    count = f"{len(bad)} of {rows} rows of {name}"
    if skip_bad_rows:
        warn(f"{count} left out:{listed(bad, len(bad))}")
    elif len(bad) == 1:
        stop = "" if bad[0].endswith((".", "?")) else "."
        raise DemonstrationError(f"{bad[0]}{stop} {_WAY_OUT}")
    else:
        raise DemonstrationError(f"{count} cannot be used. {_WAY_OUT}{listed(bad)}")


def _without_duplicates(read: list[Demonstration], warn: Warn) -> list[Demonstration]:
    first: dict[str, Demonstration] = {}
    repeats: list[str] = []
    for one in read:
        earlier = first.setdefault(one.content_hash, one)
        if earlier is not one:
            repeats.append(f"{one.origin or one.id} is the same as {earlier.origin or earlier.id}")
    if repeats:
        count = f"{len(repeats)} of {len(read)}"
        warn(f"{count} demonstrations left out as duplicates:{listed(repeats)}")
    return list(first.values())


def _with_repeats_numbered(read: list[Query]) -> Iterator[Query]:
    """Give queries that ask the same the ids `ID`, `ID-2`, `ID-3` …"""
    times: Counter[str] = Counter()
    for query in read:
        own = content_hash(query.messages)[:DEFAULT_ID_LENGTH]
        times[own] += 1
        repeated = query.id == own and times[own] > 1
        yield replace(query, id=f"{own}-{times[own]}") if repeated else query


def _check_ids(read: Iterable[Demonstration | Query]) -> None:
    first: dict[str, Demonstration | Query] = {}
    for one in read:
        earlier = first.setdefault(one.id, one)
        if earlier is not one:
            raise DemonstrationError(
                f"{one.origin}, field 'id': found {one.id!r}, which {earlier.origin} has as well; "
                "expected an id of its own, or none: then the content gives it."
            )
