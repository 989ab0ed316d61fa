"""`tasm build`: demonstrations in, a task memory on disk."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from tasm.cli import completion, options
from tasm.cli.building import (
    build_and_save,
    built_for_people,
    check_settings,
    read_files,
    smallest_core,
)
from tasm.cli.files import check_beside, check_no_input, check_out_memory
from tasm.cli.frame import Result, command, say, warn
from tasm.cli.opening import read_rows
from tasm.cli.options import count
from tasm.cli.streaming import check_resuming, stream_and_save
from tasm.compress.recipes.table import DEFAULT_RECIPE
from tasm.errors import InputError, TasmError

if TYPE_CHECKING:
    from tasm.demonstrations import Demonstration

Mode = Literal["joint", "streaming", "independent"]
Store = Literal["float32", "float16", "bfloat16", "int8", "int4"]


@command
def build(
    demonstrations: options.DemonstrationsPath,
    model: options.ModelName,
    out: options.PlannedMemory = None,
    recipe: Annotated[
        str,
        Option(
            metavar="NAME",
            help="The method; `tasm recipes` lists them.",
            autocompletion=completion.recipes,
        ),
    ] = DEFAULT_RECIPE,
    core: Annotated[
        str | None,
        Option(
            metavar="SIZE",
            help="What is always attended: 20%, 512 (tokens per layer and KV head) or 64MB; auto "
            "for the smallest that `tasm tune` finds. Default: the recipe's own, mostly 20%.",
        ),
    ] = None,
    bank: options.Bank = None,
    mode: Annotated[
        Mode,
        Option(
            help="joint: every demonstration sees all before it. streaming: chunk after chunk "
            "against the compressed prefix, in bounded memory. independent: each by itself, so "
            "that demonstrations can be added and removed."
        ),
    ] = "joint",
    chunk_tokens: Annotated[
        int | None, count(help="Tokens encoded at a time; chunks end between demonstrations.")
    ] = None,
    question: options.Question = None,
    system: options.System = None,
    max_pixels: options.MaxPixels = None,
    store: Annotated[
        Store | None,
        Option(
            help="The type keys and values are kept in; int8 and int4 are packed. Default: the one "
            "the model ran in."
        ),
    ] = None,
    no_demonstrations: Annotated[
        bool,
        Option(
            "--no-demonstrations",
            help="Leave texts and pictures out of the memory. Its keys and values still encode "
            "them.",
        ),
    ] = False,
    skip_bad_rows: Annotated[
        bool, Option("--skip-bad-rows", help="Build without the rows that cannot be read.")
    ] = False,
    overwrite: options.Overwrite = False,
    resume: Annotated[
        bool, Option("--resume", help="Go on with a streaming build that broke off before its end.")
    ] = False,
    plan: Annotated[
        bool,
        Option("--plan", help="Print tokens, bytes and time that it would take; build nothing."),
    ] = False,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    vision_memory: options.VisionMemoryPlace = None,
    seed: Annotated[
        int | None,
        Option(
            metavar="S", min=0, max=2**32 - 1, help="For recipes that draw at random. Default: 0."
        ),
    ] = None,
    shown: Annotated[
        int,
        count(
            help="Of --mode independent: how many of the first demonstrations all others are read "
            "after. These cannot be removed while others stay."
        ),
    ] = 1,
    polish: Annotated[
        int,
        Option(
            metavar="N",
            min=0,
            help="Gradient steps on what is kept, the model frozen, towards what all "
            "demonstrations say; kept only where left-out questions gain.",
        ),
    ] = 0,
) -> Result:
    """Build a task memory from demonstrations.

    \b
    Examples:
      tasm build birds.jsonl --model Qwen/Qwen2.5-VL-7B-Instruct --out birds.tasm
      tasm build photos/ --question "Which bird is this?" --model reference --out birds.tasm
      tasm build birds.jsonl --model reference --core 512 --plan
    """
    from tasm.answer import load_model

    check_settings(recipe, core, bank, seed=seed, polish=polish)
    if core == "auto":
        _check_tuning(recipe, mode, plan)
    if plan:
        _check_planning(out, overwrite, no_demonstrations)
    elif out is None:
        raise InputError("--out MEMORY is missing: where the memory goes. Only --plan needs none.")
    else:
        check_out_memory(out, overwrite, inputs=[demonstrations, Path(model)])
        check_beside(out, model=model, demonstrations=demonstrations, vision_memory=vision_memory)
    check_resuming(None if plan else out, mode, resume)
    streams = mode == "streaming" and not plan
    rows: list[Demonstration] = []
    if not streams:
        rows = read_rows(demonstrations, question, skip_bad_rows=skip_bad_rows)
        if out is not None:
            check_no_input(out, read_files(rows))
    started = time.perf_counter()
    backbone = load_model(model, dtype=dtype, device=device, vision_memory=vision_memory).backbone
    load_seconds = time.perf_counter() - started
    settings: dict[str, Any] = {
        "recipe": recipe,
        "core": core,
        "bank": bank,
        "mode": mode,
        "chunk_tokens": chunk_tokens,
        "system": system,
        "max_pixels": max_pixels,
        "store": store,
        "seed": seed or 0,
        "shown": shown,
        "polish": polish,
    }
    if plan:
        from tasm.compress.plan import plan as plan_build

        document = plan_build(backbone, rows, notice=warn, **settings)
        return Result(document, lambda: _plan_for_people(document))
    assert out is not None
    saving: dict[str, Any] = {
        "overwrite": overwrite,
        "keep_demonstrations": not no_demonstrations,
        "load_seconds": load_seconds,
    }
    if streams:
        saving |= {"question": question, "skip_bad_rows": skip_bad_rows}
        document = stream_and_save(backbone, demonstrations, settings, out, **saving)
    else:
        if core == "auto":
            settings["core"] = smallest_core(
                backbone, rows, recipe=recipe, bank=bank, system=system, max_pixels=max_pixels
            )
        document = build_and_save(backbone, rows, settings, out, **saving)
    return Result(document, lambda: built_for_people(document))


def _check_tuning(recipe: str, mode: str, plan: bool) -> None:
    """Refuse what a search for the core cannot be joined with."""
    from tasm.compress.recipes.table import find_recipe

    if mode != "joint" or plan:
        with_what = "--plan" if plan else f"--mode {mode}"
        raise InputError(
            f"--core auto has no meaning with {with_what}: the search for the smallest core reads "
            "all demonstrations together. Give a size, such as 20%."
        )
    if not find_recipe(recipe).takes_core:
        raise InputError(
            f"--core auto has no effect: the recipe {recipe!r} takes no core budget. Leave --core "
            "out, or choose another --recipe."
        )


def _check_planning(out: Path | None, overwrite: bool, no_demonstrations: bool) -> None:
    """A plan writes nothing: what says where and how is refused, or looked at and spoken of."""
    if overwrite and out is None:
        raise InputError("--overwrite has no effect: --plan writes nothing. Leave it out.")
    if no_demonstrations:
        say("Notice: --no-demonstrations changes nothing in a plan; texts are not counted in it.")
    if out is not None:
        try:
            check_out_memory(out, overwrite)
        except TasmError as error:
            say(f"Notice: The build itself would be refused: {error}")


def _plan_for_people(document: dict[str, Any]) -> Any:
    from tasm.cli.text import bytes_text, number_text, table

    def shown(name: str, value: Any) -> str:
        if name.endswith("_bytes"):
            return bytes_text(value)
        return number_text(value, 1) if isinstance(value, float) else str(value)

    rows = ((name.replace("_", " "), shown(name, value)) for name, value in document.items())
    return table(("Planned", ""), rows, right=("",))
