"""`tasm bench paper`: a published table measured again beside its printed figures."""

from pathlib import Path
from typing import Annotated

from typer import Option

from tasm.cli import completion
from tasm.cli.files import check_out_folder
from tasm.cli.frame import Result, command
from tasm.cli.options import Device, Dtype, ModelName, folder
from tasm.cli.parsing import listed
from tasm.cli.progress import Progress
from tasm.errors import InputError


@command
def paper(
    model: ModelName,
    table: Annotated[int, Option(help="1, 2, 3 or 5 of TASM's paper.")] = 1,
    data: Annotated[
        Path | None, folder(help="DIR/BENCHMARK/ with the dataset's files. Default: the hub.")
    ] = None,
    benchmarks: Annotated[
        str | None,
        Option(help="Only these, separated by commas.", autocompletion=completion.many_benchmarks),
    ] = None,
    limit: Annotated[int | None, Option(min=1, help="Ask only so many items a benchmark.")] = None,
    batch_size: Annotated[int, Option(min=1)] = 8,
    out: Annotated[Path | None, folder(help="Where the table is written.")] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Result:
    """Measure a published table: the papers' protocol, printed beside the printed figures.

    \b
    Benchmarks: imagenet-100, screenspot, mme-realworld-lite, illusionvqa, ok-vqa, refcocog, v-niah.

    \b
    Example:
      tasm bench paper --table 1 --model Qwen/Qwen2-VL-7B-Instruct --out out/table-1
    """
    from tasm.bench.paper.benchmarks import find_benchmark
    from tasm.bench.paper.published import find_table

    published = find_table(table)
    if out is not None:
        check_out_folder(out, (f"table-{table}.md", f"table-{table}.json"), inputs=[data])
    chosen = None if benchmarks is None else listed(benchmarks, "--benchmarks")
    for name in chosen or ():
        find_benchmark(name)
        if name not in published.benchmarks:
            raise InputError(
                f"--benchmarks {name} has no effect: table {table} has "
                f"{', '.join(published.benchmarks)}."
            )
    if data is not None and not data.is_dir():
        raise InputError(f"--data {data}: there is no such folder; expected DIR/BENCHMARK/ in it.")

    from tasm.backbone.loading import load_backbone
    from tasm.bench.paper.tables import reprint, write_reprint

    with Progress() as progress:
        backbone = load_backbone(model, dtype=dtype, device=device)
        found = reprint(
            table,
            backbone,
            data=data,
            benchmarks=chosen,
            limit=limit,
            batch_size=batch_size,
            progress=progress,
        )
    if out is not None:
        write_reprint(found, out)
    return Result(found.to_json(), lambda: str(found.to_markdown()))
