"""The leaderboard's runner: which rows are missing, who measures them, where they are written.

Finished rows are read back from `rows.jsonl` and never measured again; each new one is appended
as soon as it is there, so an interrupted run continues where it stopped.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tasm.bench.cells import Cell
from tasm.bench.code import code_hash
from tasm.bench.results import Row, append_rows, budget_text, read_rows, row_key
from tasm.bench.sources import Source
from tasm.bench.workers import open_backbone, over_processes
from tasm.errors import InputError, TasmError

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone

ROWS = "rows.jsonl"
LARGE_MODEL = 200_000_000
"""Parameters beyond which a copy of the model a process is not made unless it is asked for."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured: every cell on every seed of every source.

    `workers` None means one process a core for small models on a CPU, otherwise one.
    """

    model: str
    sources: Sequence[Source]
    seeds: Sequence[int]
    cells: Sequence[Cell]
    batch_size: int = 40
    workers: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    vision_memory: Path | None = None


@dataclass(frozen=True)
class Unit:
    """One seed of one source with the cells that are still missing, by their rows' keys."""

    source: Source
    seed: int
    cells: Mapping[str, Cell]
    batch_size: int


@dataclass(frozen=True)
class Refusal:
    """A cell that could not be measured, and why."""

    suite: str
    cell: Cell
    reason: str

    def __str__(self) -> str:
        budget = budget_text(self.cell.core, self.cell.stored)
        at = "" if budget is None else f" at {budget}"
        return f"{self.suite}, {self.cell.recipe}{at}: {self.reason}"


@dataclass(frozen=True)
class Outcome:
    """All rows of a plan, in the plan's order, and what was refused."""

    rows: list[Row]
    refusals: list[Refusal]


def run(
    plan: Plan, out: Path, *, progress: Callable[[str, int, int], None] | None = None
) -> Outcome:
    """Measure what is missing of a plan, append it to `out/rows.jsonl`, return all of its rows.

    ```python
    outcome = run(Plan("reference", sources, range(10), cells), Path("out/bench"))
    ```

    Raises:
        ModelError: if the model cannot be loaded.
        InputError: if `out` exists and is a file, or its rows cannot be read.
        WorkError: if the disk is full.
    """
    if not plan.cells or not plan.sources or not plan.seeds:
        raise InputError("There is nothing to measure: no recipe, no suite or no seed was named.")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder, or a name that is free.")
    for source in plan.sources:
        source.check()
    finished = read_rows(out / ROWS)
    backbone = open_backbone(plan)
    out.mkdir(parents=True, exist_ok=True)
    wanted = _units(plan, backbone)
    keys = [key for unit in wanted for key in unit.cells]
    missing = [unit for unit in (_missing(unit, finished) for unit in wanted) if unit.cells]
    done = len(keys) - sum(len(unit.cells) for unit in missing)
    refusals: list[Refusal] = []
    for result in _measured(plan, backbone, missing):
        done += 1
        if isinstance(result, Row):
            append_rows(out / ROWS, [result])
            finished[result.key] = result
        else:
            refusals.append(result)
        if progress is not None:
            progress("Measuring", done, len(keys))
    return Outcome([finished[key] for key in keys if key in finished], refusals)


def _units(plan: Plan, backbone: "Backbone") -> list[Unit]:
    """One unit a seed and source; the key of a row holds everything that could change it."""
    model, code = dict(backbone.identity.parts), code_hash()
    units = []
    for source in plan.sources:
        for seed in plan.seeds:
            episode = source.identity(seed)
            keys = {
                row_key(
                    {
                        "model": model,
                        "dtype": str(backbone.dtype),
                        "episode": episode,
                        "seed": seed,
                        "cell": cell.settings,
                        "code": code,
                    }
                ): cell
                for cell in plan.cells
            }
            units.append(Unit(source, seed, keys, plan.batch_size))
    return units


def _missing(unit: Unit, finished: Mapping[str, Row]) -> Unit:
    return replace(
        unit, cells={key: cell for key, cell in unit.cells.items() if key not in finished}
    )


def _measured(plan: Plan, backbone: "Backbone", units: Sequence[Unit]) -> Iterator[Row | Refusal]:
    workers = min(plan.workers or _default_workers(backbone), len(units))
    if workers <= 1:
        return chain.from_iterable(measure_unit(backbone, unit) for unit in units)
    return over_processes(workers, plan, units, measure_unit)


def _default_workers(backbone: "Backbone") -> int:
    parameters = sum(parameter.numel() for parameter in backbone.hf.parameters())
    on_cpu = str(backbone.device) == "cpu"
    return (os.cpu_count() or 1) if on_cpu and parameters < LARGE_MODEL else 1


def measure_unit(backbone: "Backbone", unit: Unit) -> Iterator[Row | Refusal]:
    """Measure one seed of one source, cell by cell."""
    from tasm.bench.measure import Examination

    with unit.source.open(unit.seed) as episode:
        examination = Examination(
            backbone, episode, unit.cells.values(), seed=unit.seed, batch_size=unit.batch_size
        )
        for key, cell in unit.cells.items():
            try:
                found = examination.measure(cell)
            except TasmError as error:
                yield Refusal(unit.source.label, cell, str(error))
                continue
            yield Row(
                key=key,
                suite=unit.source.label,
                seed=unit.seed,
                recipe=cell.recipe,
                core=cell.core,
                bank=cell.bank,
                stored=cell.stored,
                demonstrations=len(episode.demonstrations),
                query_ids=tuple(query.id for query in episode.queries),
                depths=episode.depths,
                context_tokens=len(examination.full.memory.tokens),
                full_bytes=examination.full.memory.full_bytes,
                settings=cell.settings,
                code=code_hash(),
                **vars(found),
            )
