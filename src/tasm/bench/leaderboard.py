"""The leaderboard as Markdown: one table at equal attended tokens, one at equal stored bytes.

A recipe enters a table at a limit with the largest of its measured budgets between this limit and
the one below, so retrieved tokens and banked bytes count, nothing is picked by its accuracy, and no
recipe stands where it was not measured. Knows rows only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tasm.bench.intervals import Interval, interval_over_suites
from tasm.bench.pool import Cell, PooledRow, cell_of, pool
from tasm.bench.results import Row
from tasm.view.tables import markdown

LIMITS = (0.025, 0.05, 0.10, 0.20, 0.40, 0.60, 1.0)
"""Shares of the full context at which recipes are compared."""

REFERENCES = ("full", "zero-shot")

TOLERANCE = 1.1
"""A row may pass a limit by a tenth: positions, indices and gate references are counted too."""

Budget = tuple[str | None, str | None, str | None]
Share = Callable[[Sequence[Row]], float]


@dataclass(frozen=True)
class Standing:
    """One recipe at one limit: its mean over suites and what it costs, as shares of the full."""

    recipe: str
    core: str | None
    bank: str | None
    stored: str | None
    mean: Interval | None
    by_suite: dict[str, PooledRow]
    token_share: float
    byte_share: float

    @property
    def budget(self) -> str:
        """What bounds it, for people: `core 20%, bank 40%`."""
        if self.recipe in REFERENCES:
            return "–"
        parts = (("core", self.core), ("bank", self.bank), ("bytes", self.stored))
        given = [f"{name} {size}" for name, size in parts if size not in (None, "0")]
        return ", ".join(given) or "–"


def token_share(rows: Sequence[Row]) -> float:
    """Return attended tokens over the tokens of the full context."""
    return fmean(row.attended_tokens / row.context_tokens for row in rows)


def byte_share(rows: Sequence[Row]) -> float:
    """Return core and bank bytes over the bytes of the full context."""
    return fmean((row.core_bytes + row.bank_bytes) / row.full_bytes for row in rows)


def limit_of(rows: Sequence[Row], share: Share) -> float | None:
    """Return the limit that rows of one budget stand under, None above the last.

    It is the smallest that they keep. Of a budget of bytes it is that budget, where they keep it:
    a recipe that spends less than it may was still measured there.
    """
    used, stored = share(rows), rows[0].stored
    if stored is not None and stored.endswith("%") and share is byte_share:
        given = float(stored[:-1]) / 100
        if given in LIMITS and used <= given * TOLERANCE:
            return given
    return next((limit for limit in LIMITS if used <= limit * TOLERANCE), None)


def standings(rows: Sequence[Row], limit: float, share: Share) -> list[Standing]:
    """Return the recipes that were measured under a limit, best mean first; `full` and `zero-shot`
    among them, wherever they were measured.

    A prompt has no place among stored bytes: pictures as files beside keys and values.

    Args:
        rows: rows of single seeds.
        limit: one of `LIMITS`, a share of the full context.
        share: `token_share` or `byte_share`.
    """
    entered: dict[str, tuple[float, Budget, list[Row]]] = {}
    for (recipe, budget), own in _by_budget(rows).items():
        if recipe not in REFERENCES and not _stands(own, limit, share):
            continue
        used = share(own)
        if recipe not in entered or used > entered[recipe][0]:
            entered[recipe] = (used, budget, own)
    return _ranked(rows, {(recipe, budget): own for recipe, (_, budget, own) in entered.items()})


def all_budgets(rows: Sequence[Row]) -> list[Standing]:
    """Return every recipe at every one of its budgets, best mean first."""
    return _ranked(rows, _by_budget(rows))


def _stands(rows: Sequence[Row], limit: float, share: Share) -> bool:
    compares = share is token_share or not _is_prompt(rows[0])
    return compares and limit_of(rows, share) == limit


def _is_prompt(row: Row) -> bool:
    recipe = row.settings.get("recipe") or {}
    return bool(recipe.get("kind") == "prompt")


def _by_budget(rows: Sequence[Row]) -> dict[tuple[str, Budget], list[Row]]:
    found: dict[tuple[str, Budget], list[Row]] = {}
    for row in rows:
        found.setdefault((row.recipe, (row.core, row.bank, row.stored)), []).append(row)
    return found


def _ranked(
    rows: Sequence[Row], measured: Mapping[tuple[str, Budget], list[Row]]
) -> list[Standing]:
    suites = list(dict.fromkeys(row.suite for row in rows))
    pooled = {cell_of(row): row for row in pool(rows)}
    found = [
        _standing(recipe, budget, own, suites, pooled) for (recipe, budget), own in measured.items()
    ]
    return sorted(found, key=lambda item: -1.0 if item.mean is None else item.mean.mean)[::-1]


def _standing(
    recipe: str,
    budget: Budget,
    rows: list[Row],
    suites: Sequence[str],
    pooled: dict[Cell, PooledRow],
) -> Standing:
    by_suite = {
        suite: pooled[suite, recipe, *budget]
        for suite in suites
        if (suite, recipe, *budget) in pooled
    }
    mean = None
    if len(by_suite) == len(suites):
        mean = interval_over_suites(
            [[row.correct for row in rows if row.suite == suite] for suite in suites]
        )
    return Standing(recipe, *budget, mean, by_suite, token_share(rows), byte_share(rows))


TABLES: tuple[tuple[str, Share], ...] = (
    ("At equal attended tokens (core + mean retrieved)", token_share),
    ("At equal stored bytes (core + bank)", byte_share),
)
"""The two comparisons: what is held equal, and the share that says so."""


def sections(rows: Sequence[Row], share: Share) -> list[tuple[float, list[Standing]]]:
    """Return the standings at every limit under which something was measured."""
    found = [(limit, standings(rows, limit, share)) for limit in LIMITS]
    return [
        (limit, within)
        for limit, within in found
        if any(item.recipe not in REFERENCES for item in within)
    ]


def notes(rows: Sequence[Row]) -> list[str]:
    """Return what recipes found while building, a line a cell."""
    return [f"{row.suite}, {row.recipe} {row.budget}: {row.note}" for row in pool(rows) if row.note]


def leaderboard(rows: Iterable[Row], model: str) -> str:
    """Return the two tables as Markdown, a section a limit.

    ```python
    Path("leaderboard.md").write_text(leaderboard(outcome.rows, "reference"))
    ```
    """
    rows = list(rows)
    suites = list(dict.fromkeys(row.suite for row in rows))
    lines = [
        f"# Leaderboard: {model}",
        "",
        "Accuracy, and its 95 % interval (seeds resampled, then queries). Each recipe stands only "
        "under limits at which it was measured, with the largest of its budgets there; shares are "
        "of the full context's tokens and bytes. `full` and `zero-shot` are there for reference.",
        "",
    ]
    for title, share in TABLES:
        lines += [f"## {title}", ""]
        for limit, found in sections(rows, share):
            lines += [f"### At most {100 * limit:g} %", "", *_table(found, suites), ""]
    noted = [f"- {line}" for line in notes(rows)]
    if noted:
        lines += ["## Notes", "", *noted, ""]
    return "\n".join(lines)


def _table(found: list[Standing], suites: Sequence[str]) -> list[str]:
    # Of one suite the mean is the suite's own figure, and is not said twice.
    mean = ["mean"] if len(suites) > 1 else []
    header = ["recipe", "budget", *mean, *suites, "tokens", "bytes", "seeds"]
    rows = []
    for item in found:
        cells = [item.recipe, item.budget]
        cells += [_figure(item.mean)] * len(mean)
        for suite in suites:
            row = item.by_suite.get(suite)
            cells.append("–" if row is None else _figure(Interval(row.accuracy, *row.ci95)))
        cells += [f"{100 * item.token_share:.1f} %", f"{100 * item.byte_share:.1f} %"]
        seeds = sorted({row.seeds for row in item.by_suite.values()})
        cells.append(str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}")
        rows.append(cells)
    return markdown(header, rows)


def _figure(value: Interval | None) -> str:
    if value is None:
        return "–"
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
