"""Options and arguments that several commands share, so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tasm.cli import completion

MemoryPath = Annotated[
    Path,
    typer.Argument(
        metavar="MEMORY", help="The folder of a task memory, or owner/name[@revision] on the hub."
    ),
]
LocalMemory = Annotated[Path, typer.Argument(metavar="MEMORY", help="The folder of a task memory.")]
DemonstrationsPath = Annotated[
    Path,
    typer.Argument(metavar="DEMOS", help="JSONL, JSON, CSV or Parquet file, or an ImageFolder."),
]
NewMemory = Annotated[Path, typer.Option("--out", metavar="MEMORY", help="Where the memory goes.")]
PlannedMemory = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="MEMORY", help="Where the memory goes; needed unless --plan is given."
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A model folder or hub name, or 'reference' for the bundled model.",
        autocompletion=completion.models,
    ),
]
ModelPlace = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Where the memory's model is now. Default: where it was when the memory was built.",
        autocompletion=completion.models,
    ),
]
VisionMemoryPlace = Annotated[
    Path | None,
    typer.Option(
        "--vision-memory",
        metavar="ADAPTER",
        help="The folder of a vision memory (`tasm vision-memory train`) for the model's tower.",
    ),
]
RecordedVisionMemory = Annotated[
    Path | None,
    typer.Option(
        "--vision-memory",
        metavar="ADAPTER",
        help="Where the vision memory is now. Default: where it was when the memory was built.",
    ),
]
Question = Annotated[
    str | None,
    typer.Option(
        "--question",
        metavar="TEXT",
        help="The question of every demonstration that has none (class folders).",
    ),
]
System = Annotated[str | None, typer.Option("--system", metavar="TEXT", help="A system prompt.")]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        metavar="N",
        min=1,
        help="The largest image area; larger images are scaled down.",
    ),
]
Bank = Annotated[
    str | None,
    typer.Option(
        "--bank",
        metavar="SIZE",
        help="What can be retrieved: 40%, 1024, 64MB or 0. Default: the recipe's own.",
    ),
]
Top = Annotated[
    int | None,
    typer.Option(
        "--top",
        metavar="N",
        min=1,
        help="Show the N most probable labels; by default of the demonstrations' answers.",
    ),
]
MetricName = Literal["exact", "contains", "f1", "number", "choice"]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="auto, float32, float16 or bfloat16. auto means float32 on a CPU.",
        autocompletion=completion.dtypes,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps …")]
