"""What one measurement leaves behind: a row a seed, appended and never computed again.

A row is known by its key: a hash of everything that could change its figures. Knows nothing of
how a row is measured or pooled.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tasm.errors import InputError, WorkError


@dataclass(frozen=True)
class Row:
    """One recipe at one budget on one seed of one suite.

    `correct`, `agrees` (the full context gave the same answer) and `js` (mean divergence from the
    full context along its answer, nats) hold one value a query, in the order of `query_ids`;
    `depths` says where in the demonstrations (0 first, 1 last) what a query needs stands, where
    the suite knows; `notes` is what the recipe found while building (a threshold it searched, the
    layers it kept whole); `stored` is the budget of bytes, where that decided core and bank. Token
    counts are means over layers and KV heads, bytes are bytes, `build_seconds` the whole build,
    `answer_ms` the time of a query in its batch, `triggered` the share of (layer, step) pairs that
    retrieved. `stored_share` is core and bank over the full context with keys and values counted in
    16 bits, `code` the hash of the code that made the row; rows of older versions have neither.
    """

    key: str
    suite: str
    seed: int
    recipe: str
    core: str | None
    bank: str | None
    demonstrations: int
    query_ids: tuple[str, ...]
    correct: tuple[float, ...]
    agrees: tuple[float, ...] | None
    js: tuple[float, ...] | None
    attended_tokens: float
    context_tokens: int
    core_bytes: int
    bank_bytes: int
    full_bytes: int
    build_seconds: float
    answer_ms: float
    triggered: float
    depths: tuple[float | None, ...] = ()
    answers: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    stored: str | None = None
    stored_share: float | None = None
    code: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def budget(self) -> str | None:
        """What bounds it, as it was given: the core's budget, or that of all bytes."""
        return budget_text(self.core, self.stored)

    def to_json(self) -> dict[str, Any]:
        """Return the row as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Row":
        """Read back what `to_json` gave; fields of a later version are ignored."""
        known = {item.name for item in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in record.items()
            if name in known
        }
        return cls(**values)


def budget_text(core: str | None, stored: str | None) -> str | None:
    """Return a budget for people, None where there is none.

    ```python
    >>> budget_text("20%", None), budget_text(None, "20%")
    ('20%', '20% of bytes')
    ```
    """
    return core if stored is None else f"{stored} of bytes"


def row_key(settings: Mapping[str, Any]) -> str:
    """Return the first 24 hex digits of the SHA-256 of `settings` as canonical JSON.

    ```python
    >>> row_key({"a": 1, "b": 2}) == row_key({"b": 2, "a": 1})
    True
    ```
    """
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def read_rows(path: Path) -> dict[str, Row]:
    """Return the finished rows of a file by key; a last line cut short by a crash is left out.

    Raises:
        InputError: if a line before the last is not a row.
    """
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, start=1):
        try:
            row = Row.from_json(json.loads(line))
        except (ValueError, TypeError) as error:
            if number == len(lines):
                break
            raise InputError(
                f"{path}, line {number}: not a row of `tasm bench accuracy` ({error}). "
                "Delete the line to measure it again, or give another --out."
            ) from error
        rows[row.key] = row
    return rows


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Append rows, each as one line, and see them onto the disk.

    A half-written line that an interrupted run left at the end is cut off first.

    Raises:
        WorkError: if the disk refuses.
    """
    text = "".join(json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in rows)
    try:
        _cut_unfinished_line(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise WorkError(f"Could not append to {path}: {error.strerror}.") from error


def _cut_unfinished_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
