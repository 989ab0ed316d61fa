"""`tasm vision-memory evaluate`: accuracy with and without an adapter, on the same queries."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from tasm.cli.frame import Result, command, warn
from tasm.cli.options import Device, Dtype, ModelName
from tasm.cli.parsing import listed
from tasm.cli.progress import Progress


@command
def evaluate(
    data: Annotated[
        list[Path],
        Argument(
            metavar="DATA...",
            help="Folders with demonstrations.jsonl and queries.jsonl, or folders of such folders.",
        ),
    ],
    model: ModelName,
    vision_memory: Annotated[Path, Option(metavar="ADAPTER", help="What is judged.")],
    recipes: Annotated[str, Option(help="Recipes, separated by commas.")] = "full,tasm",
    core: Annotated[str, Option(help="Core budgets, separated by commas.")] = "20%",
    batch_size: Annotated[int, Option(min=1)] = 40,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Result:
    """Judge a vision memory: the same memories and queries without it and with it.

    \b
    Example:
      tasm vision-memory evaluate suites/test --model reference --vision-memory mema
    """
    from tasm.answer import load_model
    from tasm.bench.cells import expand
    from tasm.vision_training.evaluate import evaluate as judge
    from tasm.vision_training.tasks import read_tasks

    cells = expand(listed(recipes, "--recipes"), listed(core, "--core"), None)
    tasks = read_tasks(data, warn)
    loaded = load_model(model, dtype=dtype, device=device, vision_memory=vision_memory)
    assert loaded.vision_memory is not None
    with Progress() as progress:
        rows = judge(loaded.vision_memory, tasks, cells, batch_size=batch_size, progress=progress)
    document = {"model": model, "adapter": str(vision_memory), "rows": [r.to_json() for r in rows]}
    return Result(document, lambda: _text(document["rows"]))


def _text(rows: Any) -> Any:
    from tasm.cli.text import table

    def shown(mean: float, low: float, high: float) -> str:
        return f"{mean:.3f} ({low:.3f}–{high:.3f})"

    measured = ("frozen", "adapted", "difference")
    lines = [
        (row["recipe"], row["core"] or None, *(shown(*row[m]) for m in measured), row["queries"])
        for row in rows
    ]
    return table(("recipe", "core", "frozen", "with it", "difference", "queries"), lines)
