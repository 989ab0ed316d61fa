"""A published table measured again, printed beside the printed figures."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasm.bench.intervals import Interval
from tasm.bench.paper.benchmarks import find_benchmark
from tasm.bench.paper.protocol import PaperData, measure
from tasm.bench.paper.published import Line, Table, find_table
from tasm.compress.recipes.table import all_recipes
from tasm.errors import TasmError
from tasm.files import write_text
from tasm.view.tables import markdown

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone


@dataclass(frozen=True)
class Cell:
    """One figure of a table: printed (per cent, None where there is none) and measured."""

    benchmark: str
    printed: float | None
    measured: Interval | None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the cell as JSON, in per cent."""
        found = self.measured
        return {
            "benchmark": self.benchmark,
            "printed": self.printed,
            "measured": None if found is None else 100 * found.mean,
            "ci95": None if found is None else [100 * found.low, 100 * found.high],
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Reprint:
    """A table with its printed and measured figures."""

    table: Table
    model: str
    lines: list[tuple[Line, list[Cell]]]

    def to_json(self) -> dict[str, Any]:
        """Return the document of `tasm bench paper --json`."""
        return {
            "table": self.table.number,
            "title": self.table.title,
            "model": self.model,
            "rows": [
                {
                    "label": line.label,
                    "recipe": line.recipe,
                    "figures": [cell.to_json() for cell in cells],
                }
                for line, cells in self.lines
            ],
        }

    def to_markdown(self) -> str:
        """Return the table as Markdown: printed / measured [interval], in per cent."""
        rows = [[line.label, *map(_shown, cells)] for line, cells in self.lines]
        names = [cell.benchmark for cell in self.lines[0][1]] if self.lines else []
        text = [
            f"# Table {self.table.number}: {self.table.title}",
            "",
            f"Printed (Qwen2-VL-7B) / measured with {self.model}; per cent, 95 % interval.",
            "",
            *markdown(["", *names], rows),
        ]
        reasons = {cell.reason for _, cells in self.lines for cell in cells if cell.reason}
        if reasons:
            text += ["", *(f"- {reason}" for reason in sorted(reasons))]
        return "\n".join(text) + "\n"


def reprint(
    number: int,
    backbone: "Backbone",
    *,
    data: Path | None = None,
    benchmarks: Sequence[str] | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    progress: Callable[[str, int, int], None] | None = None,
) -> Reprint:
    """Measure every figure of a printed table that has a recipe here.

    A recipe that is not installed, or that refuses a context, leaves its figure out and says why.

    Raises:
        InputError: if the table, a benchmark or a dataset is not there.
    """
    table = find_table(number)
    chosen = [name for name in table.benchmarks if benchmarks is None or name in benchmarks]
    for name in benchmarks or ():
        find_benchmark(name)
    sources = {name: PaperData(find_benchmark(name), data, limit) for name in chosen}
    for source in sources.values():
        _ = source.tested  # a missing dataset is said before hours of work
    lines = []
    for line in table.lines:
        cells = [_cell(backbone, sources[name], line, batch_size, progress) for name in chosen]
        lines.append((line, cells))
    return Reprint(table, backbone.name, lines)


def write_reprint(found: Reprint, out: Path) -> list[Path]:
    """Write `table-N.md` and `table-N.json` into a folder and return their paths."""
    stem = out / f"table-{found.table.number}"
    markdown, document = stem.with_suffix(".md"), stem.with_suffix(".json")
    write_text(markdown, found.to_markdown())
    write_text(document, json.dumps(found.to_json(), indent=2) + "\n")
    return [markdown, document]


def _cell(
    backbone: "Backbone",
    source: PaperData,
    line: Line,
    batch_size: int,
    progress: Callable[[str, int, int], None] | None,
) -> Cell:
    name = source.benchmark.name
    printed = line.values.get(name)
    if line.recipe is None:
        return Cell(name, printed, None)
    if line.recipe not in all_recipes():
        return Cell(name, printed, None, f"There is no recipe {line.recipe!r} here.")
    try:
        found = measure(backbone, source, line, batch_size=batch_size, progress=progress)
    except TasmError as error:
        return Cell(name, printed, None, f"{line.label}, {name}: {error}")
    return Cell(name, printed, found)


def _shown(cell: Cell) -> str:
    printed = "–" if cell.printed is None else f"{cell.printed:.1f}"
    if cell.measured is None:
        return f"{printed} / –"
    found = cell.measured
    return f"{printed} / {100 * found.mean:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
