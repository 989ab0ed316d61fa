"""`tasm rebuild`: the same demonstrations and recipe on another model."""

import time
from pathlib import Path
from typing import Annotated

from typer import Option

from tasm.cli import options
from tasm.cli.building import build_and_save, built_for_people, read_files
from tasm.cli.files import check_beside, check_no_input, check_out_memory
from tasm.cli.frame import Result, command, warn
from tasm.cli.opening import open_memory


@command
def rebuild(
    memory: options.MemoryPath,
    model: options.ModelName,
    out: options.NewMemory,
    demonstrations: Annotated[
        Path | None,
        Option(
            metavar="DEMOS", help="Where the original demonstrations are. Default: where they were."
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    vision_memory: options.VisionMemoryPlace = None,
) -> Result:
    """Build a memory anew on another model: same demonstrations, recipe and settings.

    The original files are looked for where they were, or where --demonstrations says; each is used
    only if its hash agrees.

    \b
    Examples:
      tasm rebuild birds.tasm --model Qwen/Qwen3-VL-8B-Instruct --out birds-qwen3.tasm
      tasm rebuild birds.tasm --demonstrations moved/birds.jsonl --model reference --out new.tasm
    """
    from tasm.answer import load_model
    from tasm.check.rebuild import what_was_built

    check_out_memory(out, overwrite, inputs=[memory, Path(model)])
    check_beside(out, model=model, vision_memory=vision_memory)
    old = open_memory(memory)
    rows, settings = what_was_built(old, demonstrations, warn)
    check_no_input(out, read_files(rows))
    if old.vision_memory and vision_memory is None:
        warn(
            f"The memory was built with the vision memory {old.vision_memory}; it is rebuilt "
            "without one. Give --vision-memory for one that was trained on this model."
        )
    started = time.perf_counter()
    loaded = load_model(model, dtype=dtype, device=device, vision_memory=vision_memory)
    load_seconds = time.perf_counter() - started
    document = build_and_save(
        loaded.backbone,
        rows,
        settings,
        out,
        overwrite=overwrite,
        keep_demonstrations=True,
        load_seconds=load_seconds,
    )
    return Result(document, lambda: built_for_people(document))
