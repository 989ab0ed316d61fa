"""What a vision memory changes: the same memories and queries, without it and with it.

Every task is built and asked with the frozen model and with the adapter in its tower; what is
compared is paired, query by query. Knows nothing of how it was trained.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from tasm.answer import ask_all
from tasm.backbone.model import Backbone
from tasm.bench.cells import Cell
from tasm.bench.intervals import Interval, interval, paired_interval
from tasm.compress.api import build
from tasm.demonstrations import is_correct
from tasm.errors import InputError
from tasm.vision_memory.attached import VisionMemory
from tasm.vision_training.tasks import Task

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Judged:
    """One recipe's accuracy over all tasks: frozen, with the adapter, and their difference."""

    recipe: str
    core: str | None
    frozen: Interval
    adapted: Interval
    difference: Interval
    tasks: int
    queries: int

    def to_json(self) -> dict[str, Any]:
        """Return the row of `tasm vision-memory evaluate --json`."""
        return {
            "recipe": self.recipe,
            "core": self.core,
            "tasks": self.tasks,
            "queries": self.queries,
            "frozen": _ends(self.frozen),
            "adapted": _ends(self.adapted),
            "difference": _ends(self.difference),
        }


def _ends(found: Interval) -> list[float]:
    return [found.mean, found.low, found.high]


def evaluate(
    vision: VisionMemory,
    tasks: Sequence[Task],
    cells: Sequence[Cell],
    *,
    batch_size: int = 40,
    progress: Progress | None = None,
) -> list[Judged]:
    """Judge a vision memory that is on, on tasks with queries of their own.

    ```python
    rows = evaluate(vision, read_tasks([Path("suites/test")]), [Cell("full", None, None)])
    ```

    Intervals resample tasks, then their queries. Raises `InputError` for a task whose queries are
    its demonstrations: their answers lie in the memory.
    """
    leaking = next((task for task in tasks if not task.asks_others), None)
    if leaking is not None:
        raise InputError(
            f"{leaking.name} has no queries beside its demonstrations, so nothing can be asked "
            "whose answer is not in the memory already. Give a folder with demonstrations.jsonl "
            "and queries.jsonl, as `tasm suite` writes it."
        )
    right: dict[tuple[int, bool], list[list[float]]] = {}
    done, total = 0, 2 * len(tasks) * len(cells)
    for task in tasks:
        for number, cell in enumerate(cells):
            for adapted in (False, True):
                with nullcontext() if adapted else vision.paused():
                    found = right_answers(vision.backbone, task, cell, batch_size)
                right.setdefault((number, adapted), []).append(found)
                done += 1
                if progress is not None:
                    progress("Judging", done, total)
    return [
        Judged(
            recipe=cell.recipe,
            core=cell.core,
            frozen=interval(right[number, False]),
            adapted=interval(right[number, True]),
            difference=paired_interval(right[number, True], right[number, False]),
            tasks=len(tasks),
            queries=sum(map(len, right[number, True])),
        )
        for number, cell in enumerate(cells)
    ]


def right_answers(backbone: Backbone, task: Task, cell: Cell, batch_size: int) -> list[float]:
    """Build a memory of a task, ask its queries, and return 1.0 for each right answer, else 0.0."""
    memory = build(backbone, list(task.shown), recipe=cell.recipe, core=cell.core, bank=cell.bank)
    answers = ask_all(backbone, memory, list(task.asked), batch_size=batch_size)
    return [
        float(is_correct(answer.text, query.answers))
        for answer, query in zip(answers, task.asked, strict=True)
    ]
