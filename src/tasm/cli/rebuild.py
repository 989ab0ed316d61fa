"""`tasm rebuild`: the same demonstrations and recipe on another model."""

import time

from tasm.cli.building import build_and_save, built_for_people
from tasm.cli.files import check_out_memory
from tasm.cli.frame import Result, command, warn
from tasm.cli.opening import open_memory
from tasm.cli.options import Device, Dtype, Json, MemoryPath, ModelName, NewMemory, Overwrite
from tasm.errors import InputError


@command
def rebuild(
    memory: MemoryPath,
    model: ModelName,
    out: NewMemory,
    overwrite: Overwrite = False,
    dtype: Dtype = "auto",
    device: Device = "auto",
    json: Json = False,
) -> Result:
    """Build a memory anew on another model: same demonstrations, recipe and settings.

    The original files must still be where they were; each is used only if its hash agrees.

    \b
    Example:
      tasm rebuild birds.tasm --model Qwen/Qwen3-VL-8B-Instruct --out birds-qwen3.tasm
    """
    from tasm.answer import load_model
    from tasm.check.rebuild import originals_of, recipe_change, settings_of

    check_out_memory(out, overwrite)
    old = open_memory(memory)
    demonstrations = originals_of(old)
    if demonstrations is None:
        raise InputError(
            f"{memory}: the original demonstrations are gone, were changed, or were not recorded "
            "(--no-demonstrations). Build from them with `tasm build`."
        )
    if changed := recipe_change(old):
        warn(changed)
    started = time.perf_counter()
    loaded = load_model(model, dtype=dtype, device=device)
    load_seconds = time.perf_counter() - started
    document = build_and_save(
        loaded.backbone,
        demonstrations,
        settings_of(old),
        out,
        overwrite=overwrite,
        keep_demonstrations=True,
        load_seconds=load_seconds,
    )
    return Result(document, lambda: built_for_people(document))
