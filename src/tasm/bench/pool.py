"""Rows of single seeds pooled into the leaderboard's rows, with intervals and paired differences.

The fields and their order are those of `tasm bench accuracy --json`. Knows rows and numbers only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tasm.bench.intervals import interval, paired_interval
from tasm.bench.results import Row, budget_text
from tasm.compress.recipes.table import all_recipes

Cell = tuple[str, str, str | None, str | None, str | None]


@dataclass(frozen=True)
class PooledRow:
    """One (suite, recipe, core, bank, stored), pooled over seeds; intervals are `(low, high)` at
    95 %.

    `against_full` and `against_tasm` are `(difference, low, high)`: this row minus that one on
    the queries both answered, None where that one was not measured. `attended_tokens` counts
    tokens, bytes are bytes, `build_seconds` seconds, `answer_ms` milliseconds a query.
    """

    suite: str
    recipe: str
    core: str | None
    bank: str | None
    accuracy: float
    ci95: tuple[float, float]
    queries: int
    seeds: int
    agreement: float | None
    mean_js: float | None
    attended_tokens: float
    core_bytes: int
    bank_bytes: int
    full_bytes: int
    build_seconds: float
    answer_ms: float
    triggered: float
    against_full: tuple[float, float, float] | None
    against_tasm: tuple[float, float, float] | None
    note: str
    stored: str | None
    stored_share: float | None
    tuned: bool
    code: str
    demonstrations: int

    @property
    def budget(self) -> str | None:
        """What bounds it, as it was given: the core's budget, or that of all bytes."""
        return budget_text(self.core, self.stored)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that `--json` prints."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if name != "demonstrations"  # for the plots; not a documented field
        }


def cell_of(row: Row | PooledRow) -> Cell:
    """Return what a leaderboard row stands for: (suite, recipe, core, bank, stored)."""
    return row.suite, row.recipe, row.core, row.bank, row.stored


def pool(rows: Iterable[Row]) -> list[PooledRow]:
    """Pool rows of single seeds, in the order in which each cell first appears.

    The row that `against_tasm` compares with is `tasm` at the same suite, core and bank; where it
    was not measured with that bank, `tasm` at the same core with its own bank.

    ```python
    >>> pool([])
    []
    ```
    """
    cells: dict[Cell, dict[int, Row]] = {}
    for row in rows:
        cells.setdefault(cell_of(row), {})[row.seed] = row
    return [_pooled(cell, seeds, cells) for cell, seeds in cells.items()]


def _pooled(cell: Cell, by_seed: dict[int, Row], cells: dict[Cell, dict[int, Row]]) -> PooledRow:
    rows = [by_seed[seed] for seed in sorted(by_seed)]
    suite, recipe, core, bank, stored = cell
    accuracy = interval([row.correct for row in rows])
    return PooledRow(
        suite=suite,
        recipe=recipe,
        core=core,
        bank=bank,
        accuracy=accuracy.mean,
        ci95=(accuracy.low, accuracy.high),
        queries=sum(len(row.correct) for row in rows),
        seeds=len(rows),
        agreement=_mean([row.agrees for row in rows]),
        mean_js=_mean([row.js for row in rows]),
        attended_tokens=fmean(row.attended_tokens for row in rows),
        core_bytes=round(fmean(row.core_bytes for row in rows)),
        bank_bytes=round(fmean(row.bank_bytes for row in rows)),
        full_bytes=round(fmean(row.full_bytes for row in rows)),
        build_seconds=fmean(row.build_seconds for row in rows),
        answer_ms=fmean(row.answer_ms for row in rows),
        triggered=fmean(row.triggered for row in rows),
        against_full=_difference(by_seed, cells.get((suite, "full", None, None, None))),
        against_tasm=_difference(by_seed, _tasm(cells, cell)),
        note=_note(rows),
        stored=stored,
        stored_share=_mean(
            [None if row.stored_share is None else [row.stored_share] for row in rows]
        ),
        tuned=is_tuned(recipe),
        code=", ".join(dict.fromkeys(row.code for row in rows if row.code)),
        demonstrations=round(fmean(row.demonstrations for row in rows)),
    )


def _tasm(cells: dict[Cell, dict[int, Row]], cell: Cell) -> dict[int, Row] | None:
    suite, _, core, bank, stored = cell
    same = cells.get((suite, "tasm", core, bank, stored))
    if same is not None:
        return same
    found = [
        seeds
        for other, seeds in cells.items()
        if (*other[:3], other[4]) == (suite, "tasm", core, stored)
    ]
    return found[0] if found else None


def is_tuned(name: str) -> bool:
    """Return whether a recipe is a rival's form tuned here on training classes."""
    found = all_recipes().get(name)
    return found is not None and found.form == "tuned"


def _mean(values: Sequence[Sequence[float] | None]) -> float | None:
    known = [value for row in values if row is not None for value in row]
    return fmean(known) if known else None


def _difference(
    mine: dict[int, Row], other: dict[int, Row] | None
) -> tuple[float, float, float] | None:
    """The paired difference on the seeds and queries that both answered."""
    left: list[list[float]] = []
    right: list[list[float]] = []
    for seed in sorted(mine):
        if other is None or seed not in other:
            continue
        theirs = dict(zip(other[seed].query_ids, other[seed].correct, strict=True))
        pairs = [
            (value, theirs[query])
            for query, value in zip(mine[seed].query_ids, mine[seed].correct, strict=True)
            if query in theirs
        ]
        left.append([a for a, _ in pairs])
        right.append([b for _, b in pairs])
    if not any(left):
        return None
    found = paired_interval(left, right)
    return found.mean, found.low, found.high


def _note(rows: Sequence[Row]) -> str:
    """What the recipe found while building, over all seeds: `delta 0.004 to 0.006`."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.notes.items():
            found.setdefault(name, []).append(value)
    return "; ".join(f"{name.replace('_', ' ')} {_range(found[name])}" for name in found)


def _range(values: Sequence[Any]) -> str:
    numbers = [float(number) for value in values for number in _numbers(value)]
    if not numbers:
        return ", ".join(dict.fromkeys(str(value) for value in values))
    low, high = min(numbers), max(numbers)
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _numbers(value: Any) -> list[float]:
    if isinstance(value, (list, tuple)):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, (int, float)) else []
