"""A leaderboard's rows as the tables and panels of its page. Knows standings, not HTML.

`full` and `zero-shot` are references: they are drawn across, and are never the best of a column.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from tasm.bench.intervals import Interval
from tasm.bench.leaderboard import REFERENCES, Standing, all_budgets
from tasm.bench.pool import PooledRow
from tasm.bench.results import Row
from tasm.view.scatter import Line, Measured, Scatter
from tasm.view.tables import Cell, Column, Table
from tasm.view.tables import Row as TableRow


@dataclass(frozen=True)
class Overview:
    """What the page shows of all rows; `numbers` are the recipes' numbers, from 0, best first."""

    numbers: dict[str, int]
    suites: tuple[str, ...]
    found: tuple[Standing, ...]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Overview":
        """Number the recipes by the best mean that any of their budgets reaches.

        ```python
        Overview.of(outcome.rows).table().rows[0]
        ```
        """
        found = all_budgets(rows)
        names = [item.recipe for item in found if item.recipe not in REFERENCES]
        return cls(
            {name: number for number, name in enumerate(dict.fromkeys(names))},
            tuple(dict.fromkeys(row.suite for row in rows)),
            tuple(found),
        )

    def table(self) -> Table:
        """Every recipe at every budget, to be sorted."""
        return self._table("All recipes and budgets", self.found, sortable=True)

    def standings(self, name: str, found: Sequence[Standing]) -> Table:
        """The recipes that stand within one limit."""
        return self._table(name, found, sortable=False)

    def panels(self) -> list[Scatter]:
        """Mean accuracy by attended tokens and by stored bytes; none where no mean is known."""
        kinds: tuple[tuple[str, str, Callable[[Standing], float]], ...] = (
            (
                "By attended tokens",
                "attended tokens, % of the full context",
                lambda item: item.token_share,
            ),
            (
                "By stored bytes",
                "core and bank, % of the full context's bytes",
                lambda item: item.byte_share,
            ),
        )
        references = [
            (item.recipe, item.mean.mean)
            for item in self.found
            if item.recipe in REFERENCES and item.mean is not None
        ]
        panels = []
        for title, across, share in kinds:
            lines = [self._line(name, share) for name in self.numbers]
            lines = [line for line in lines if line.points]
            if lines:
                panels.append(Scatter.of(title, across, lines, references))
        return panels

    def _line(self, recipe: str, share: Callable[[Standing], float]) -> Line:
        points = [
            Measured(
                100 * share(item),
                item.mean.mean,
                item.mean.low,
                item.mean.high,
                f"{recipe}, {item.budget}",
            )
            for item in self.found
            if item.recipe == recipe and item.mean is not None and share(item) > 0
        ]
        return Line(self.numbers[recipe], recipe, tuple(sorted(points, key=lambda point: point.x)))

    def _table(self, name: str, found: Sequence[Standing], *, sortable: bool) -> Table:
        means = [item.mean for item in found]
        by_suite = {
            suite: [_interval_of(item.by_suite.get(suite)) for item in found]
            for suite in self.suites
        }
        best_mean = _best(found, means)
        best = {suite: _best(found, values) for suite, values in by_suite.items()}
        several = len(self.suites) > 1
        rows = []
        for number, item in enumerate(found):
            cells = [
                Cell(
                    item.recipe,
                    f"{item.recipe} {item.core or item.stored or ''}",
                    below=_below(item),
                    chip=self.numbers.get(item.recipe),
                )
            ]
            if several:
                cells.append(_accuracy(means[number], number in best_mean))
            for suite in self.suites:
                cells.append(_accuracy(by_suite[suite][number], number in best[suite]))
            cells += [
                _share_cell(item.token_share),
                _share_cell(item.byte_share),
                *(self._costs(item) if sortable else ()),
            ]
            rows.append(TableRow(tuple(cells), reference=item.recipe in REFERENCES))
        return Table(name, self._columns(several, sortable), tuple(rows), sortable=sortable)

    def _columns(self, several: bool, sortable: bool) -> tuple[Column, ...]:
        accuracies = [*(["mean accuracy"] if several else []), *self.suites]
        columns = [Column("recipe")]
        columns += [
            Column(name, figures=True, sorted=sortable and not number)
            for number, name in enumerate(accuracies)
        ]
        costs = ["tokens", "bytes"]
        costs += ["agrees with full", "build, s", "answer, ms"] if sortable else []
        return (*columns, *(Column(name, figures=True) for name in costs))

    @staticmethod
    def _costs(item: Standing) -> tuple[Cell, ...]:
        rows = list(item.by_suite.values())
        agreement = [row.agreement for row in rows if row.agreement is not None]
        return (
            _number(fmean(agreement) if agreement else None, "{:.2f}"),
            _number(fmean(row.build_seconds for row in rows), "{:.2f}"),
            _number(fmean(row.answer_ms for row in rows), "{:.1f}"),
        )


def _below(item: Standing) -> str:
    return "for reference" if item.recipe in REFERENCES else item.budget


def _interval_of(row: PooledRow | None) -> Interval | None:
    return None if row is None else Interval(row.accuracy, *row.ci95)


def _best(found: Sequence[Standing], values: Sequence[Interval | None]) -> set[int]:
    """The rows with the best value, to three digits; none where there is no rival."""
    rivals = {
        number: round(value.mean, 3)
        for number, (item, value) in enumerate(zip(found, values, strict=True))
        if value is not None and item.recipe not in REFERENCES
    }
    if len(rivals) < 2:
        return set()
    highest = max(rivals.values())
    return {number for number, value in rivals.items() if value == highest}


def _accuracy(value: Interval | None, best: bool) -> Cell:
    if value is None:
        return Cell("–")
    return Cell(f"{value.mean:.3f}", value.mean, best, (value.low, value.high))


def _share_cell(value: float) -> Cell:
    return Cell(f"{100 * value:.1f} %", value)


def _number(value: float | None, form: str) -> Cell:
    return Cell("–") if value is None else Cell(form.format(value), value)
