"""Reads demonstrations one at a time, so that any number of them fits into memory.

Of what went by only hashes are held, 100 bytes or so a row. Knows what makes a set of rows sound,
as `reading` does.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

from tasm.arguments import unheard
from tasm.demonstrations.conversation import Demonstration
from tasm.demonstrations.problems import RowProblem
from tasm.demonstrations.reading import (
    Progress,
    Warn,
    check_question,
    demonstration_of,
    no_rows,
    report_bad_rows,
    warn_in_python,
)
from tasm.demonstrations.source import open_source
from tasm.errors import DemonstrationError


def stream_demonstrations(
    source: Any,
    *,
    question: str | None = None,
    skip_bad_rows: bool = False,
    warn: Warn = warn_in_python,
    progress: Progress = unheard,
    most_bad: int | None = 1,
) -> Iterator[Demonstration]:
    """Yield solved examples one at a time, from where `read_demonstrations` reads them.

    ```python
    for one in stream_demonstrations("birds.jsonl"):
        print(one.answer)
    ```

    Of those that were yielded only hashes are held, so that repeats are found. The first bad row
    ends it, or the last of `most_bad`, unless `skip_bad_rows`; None names all of them at the end,
    where `warn` says what was left out. Whether answers contradict each other is not looked at.

    Raises `DemonstrationError` as `read_demonstrations` does.
    """
    check_question(question)
    opened = open_source(source, question)
    ids: set[bytes] = set()
    seen: set[bytes] = set()
    bad: list[str] = []
    rows = repeats = 0
    for rows, found in enumerate(opened.rows, start=1):
        progress("Reading", rows, 0)
        try:
            one = demonstration_of(found, opened.folder, question)
        except RowProblem as problem:
            bad.append(f"{found.origin}, {problem}")
            if len(bad) == most_bad and not skip_bad_rows:
                break
            continue
        content = bytes.fromhex(one.content_hash)
        if content in seen:
            repeats += 1
            continue
        named = hashlib.sha256(one.id.encode(errors="surrogatepass")).digest()[:16]
        if named in ids:
            raise DemonstrationError(
                f"{one.origin or 'A demonstration'}, field 'id': found {one.id!r}, which an "
                "earlier row has as well; expected an id of its own, or none: then the content "
                "gives it."
            )
        seen.add(content)
        ids.add(named)
        yield one
    for notice in opened.notices:
        warn(notice)
    if bad:
        report_bad_rows(bad, rows, opened.name, skip_bad_rows, warn)
    if repeats:
        warn(f"{repeats} of {rows} demonstrations left out as duplicates.")
    if not seen:
        raise no_rows(opened.name)
