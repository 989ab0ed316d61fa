"""What `build` and `rebuild` share: building, saving, and the figures of both."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasm.cli.files import check_out_memory
from tasm.cli.frame import warn
from tasm.cli.progress import Progress
from tasm.view.thumbnails import thumbnails

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone
    from tasm.demonstrations import Demonstration
    from tasm.memory import TaskMemory


def check_settings(recipe: str, core: str | None, bank: str | None) -> None:
    """Refuse at once, before a model is loaded, what no model could make possible."""
    from tasm.compress.recipes.table import find_recipe
    from tasm.compress.sizes import parse_size

    find_recipe(recipe)
    for name, size in (("core", core), ("bank", bank)):
        if size is not None:
            parse_size(size, name)


def settings_of(memory: "TaskMemory") -> dict[str, Any]:
    """Return the recipe and settings that a memory was built with, for `rebuild`."""
    return {"recipe": memory.recipe["name"], **memory.recipe["settings"]}


def build_and_save(
    backbone: "Backbone",
    demonstrations: "Sequence[Demonstration]",
    settings: Mapping[str, Any],
    out: Path,
    *,
    overwrite: bool,
    keep_demonstrations: bool,
    load_seconds: float,
) -> dict[str, Any]:
    """Build a memory, save it to `out` and return the document of `tasm build --json`."""
    import tasm

    started = time.perf_counter()
    with Progress() as progress:
        memory = tasm.build(backbone, demonstrations, progress=progress, notice=warn, **settings)
    built = time.perf_counter()
    if not keep_demonstrations:
        memory = without_demonstrations(memory)
    pictures = thumbnails(demonstrations) if keep_demonstrations else {}
    check_out_memory(out, overwrite)  # what came to be there meanwhile is not replaced either
    file_bytes = memory.save(out, overwrite=overwrite, pictures=pictures)
    saved = time.perf_counter()
    report = memory.report
    seconds = report["seconds"]
    return {
        "memory": str(out),
        "model": backbone.name,
        "recipe": memory.recipe["name"],
        "mode": settings["mode"],
        "demonstrations": len(demonstrations),
        "tokens": report["tokens"],
        "core_tokens": report["core_tokens"],
        "bank_tokens": report["bank_tokens"],
        "full_bytes": memory.full_bytes,
        "core_bytes": memory.core_bytes,
        "bank_bytes": memory.bank_bytes,
        "file_bytes": file_bytes,
        "peak_memory_bytes": report["peak_memory_bytes"],
        "seconds": {
            "load": load_seconds,
            "encode": seconds["encode"],
            "score": seconds["score"],
            "reduce": seconds["reduce"],
            "save": saved - built,
            "total": load_seconds + saved - started,
        },
    }


def without_demonstrations(memory: "TaskMemory") -> "TaskMemory":
    """Return the memory without the demonstrations' texts, pictures and places.

    Ids, spans and content hashes stay; keys and values still encode what was shown.
    """
    entries = [
        replace(
            entry,
            pictures=(),
            origin=None,
            question=None,
            answer=None,
            earlier=(),
            text_ends=(),
        )
        for entry in memory.demonstrations
    ]
    return memory.replaced(demonstrations=entries)


def built_for_people(document: Mapping[str, Any]) -> str:
    """Return what `tasm build` prints without `--json`."""
    from tasm.cli.text import bytes_text, core_text, seconds_text

    core, bank, full = (document[name] for name in ("core_bytes", "bank_bytes", "full_bytes"))
    bank_line = f"; {bytes_text(bank)} in the bank" if bank else ""
    return (
        f"{document['memory']}: {document['demonstrations']} demonstrations, "
        f"{document['tokens']:,.0f} tokens, in {seconds_text(document['seconds']['total'])}.\n"
        f"Core {core_text(core, full)}{bank_line}."
    )


def plan_for_people(document: Mapping[str, Any]) -> Any:
    """Return what `tasm build --plan` prints without `--json`."""
    from tasm.cli.text import bytes_text, number_text, plain, table

    listing = table("Planned", "", right=("",))
    for name, value in document.items():
        if name.endswith("_bytes"):
            shown = bytes_text(value)
        elif isinstance(value, float):
            shown = number_text(value, 1)
        else:
            shown = plain(value)
        listing.add_row(name.replace("_", " "), shown)
    return listing
