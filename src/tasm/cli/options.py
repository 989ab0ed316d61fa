"""Options and arguments that several commands share, so that they read the same everywhere."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from tasm.cli import completion

count = partial(Option, metavar="N", min=1)
share = partial(Option, metavar="X", min=0.0, max=1.0)
file, folder = partial(Option, metavar="FILE"), partial(Option, metavar="DIR")

MemoryPath = Annotated[
    Path,
    Argument(
        metavar="MEMORY", help="The folder of a task memory, or owner/name[@revision] on the hub."
    ),
]
LocalMemory = Annotated[Path, Argument(metavar="MEMORY", help="The folder of a task memory.")]
DemonstrationsPath = Annotated[
    Path, Argument(metavar="DEMOS", help="JSONL, JSON, CSV or Parquet file, or an ImageFolder.")
]
NewMemory = Annotated[Path, Option("--out", metavar="MEMORY", help="Where the memory goes.")]
PlannedMemory = Annotated[
    Path | None,
    Option("--out", metavar="MEMORY", help="Where the memory goes; needed unless --plan is given."),
]
ModelName = Annotated[
    str,
    Option(
        "--model",
        metavar="MODEL",
        help="A model folder or hub name, or 'reference' for the bundled model.",
        autocompletion=completion.models,
    ),
]
ModelPlace = Annotated[
    str | None,
    Option(
        "--model",
        metavar="MODEL",
        help="Where the memory's model is now. Default: where it was when the memory was built.",
        autocompletion=completion.models,
    ),
]
VisionMemoryPlace = Annotated[
    Path | None,
    Option(
        "--vision-memory",
        metavar="ADAPTER",
        help="The folder of a vision memory (`tasm vision-memory train`) for the model's tower.",
    ),
]
RecordedVisionMemory = Annotated[
    Path | None,
    Option(
        "--vision-memory",
        metavar="ADAPTER",
        help="Where the vision memory is now. Default: where it was when the memory was built.",
    ),
]
Question = Annotated[
    str | None,
    Option(
        "--question",
        metavar="TEXT",
        help="The question of every demonstration that has none (class folders).",
    ),
]
System = Annotated[str | None, Option("--system", metavar="TEXT", help="A system prompt.")]
MaxPixels = Annotated[
    int | None, count("--max-pixels", help="The largest image area; larger images are scaled down.")
]
Bank = Annotated[
    str | None,
    Option(
        "--bank",
        metavar="SIZE",
        help="What can be retrieved: 40%, 1024, 64MB or 0. Default: the recipe's own.",
    ),
]
Top = Annotated[
    int | None,
    count(
        "--top", help="Show the N most probable labels; by default of the demonstrations' answers."
    ),
]
MetricName = Literal["exact", "contains", "f1", "number", "choice"]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace what is there.")]
Dtype = Annotated[
    str,
    Option(
        "--dtype",
        help="auto, float32, float16 or bfloat16. auto means float32 on a CPU.",
        autocompletion=completion.dtypes,
    ),
]
Device = Annotated[str, Option("--device", help="auto, cpu, cuda, cuda:1, mps …")]
