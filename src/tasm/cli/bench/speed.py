"""`tasm bench speed`: what a memory costs and saves, measured on this machine."""

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from tasm.cli import completion
from tasm.cli.files import check_out_folder
from tasm.cli.frame import Result, command
from tasm.cli.options import Device, Dtype, folder
from tasm.cli.parsing import listed
from tasm.cli.progress import Progress

MODEL, QUICK_MODEL = "random:qwen2_vl-0.15b", "random:qwen2_vl-tiny"


@command
def speed(
    model: Annotated[
        str | None,
        Option(
            metavar="MODEL",
            help=f"Also a geometry made here. Default: {MODEL}, with --quick {QUICK_MODEL}.",
            autocompletion=completion.models,
        ),
    ] = None,
    out: Annotated[Path | None, folder(help="Where speed.json and speed.md go.")] = None,
    rows: Annotated[
        str | None,
        Option(
            help="Only these rows, separated by commas. Default: all.",
            autocompletion=completion.speed_rows,
        ),
    ] = None,
    quick: Annotated[
        bool, Option("--quick", help="Every row once, small: whether it runs, no limits.")
    ] = False,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Result:
    """Measure building, decoding, loading and starting: medians of ratios, in one process.

    Leaves with code 1 where a limit is missed.

    \b
    Example:
      tasm bench speed --model random:qwen2_vl-0.15b --out out/speed
    """
    from tasm.bench.speed.bench import FULL, QUICK
    from tasm.bench.speed.run import measure_speed, write_speed

    if out is not None:
        check_out_folder(out, ("speed.json", "speed.md"))
    wanted = None if rows is None else listed(rows, "--rows")
    with Progress() as progress:
        found = measure_speed(
            model or (QUICK_MODEL if quick else MODEL),
            rows=wanted,
            dtype=dtype,
            device=device,
            scale=QUICK if quick else FULL,
            progress=progress,
        )
    if out is not None:
        write_speed(found, out)
    complaint = found.complaint
    return Result(found.to_json(), lambda: _table(found), int(complaint is not None), complaint)


def _table(found: Any) -> Any:
    from tasm.bench.speed.figures import COLUMNS
    from tasm.cli.text import table

    cells = (row.cells for row in found.rows)
    return table(COLUMNS, cells, title=found.title, right=("value", "took"))
