"""What `build` and `rebuild` share: building, saving, and the figures of both."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasm.cli.files import check_out_memory
from tasm.cli.frame import say, warn
from tasm.cli.progress import Progress
from tasm.errors import InputError, RecipeError
from tasm.files import check_writable, free_bytes

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone
    from tasm.compress.recipes.recipe import Recipe
    from tasm.demonstrations import Conversation, Demonstration
    from tasm.memory import TaskMemory


def check_settings(
    recipe: str,
    core: str | None,
    bank: str | None,
    *,
    seed: int | None = None,
    polish: int = 0,
) -> None:
    """Refuse at once, before a model is loaded, what no model could make possible.

    Raises `RecipeError` for an unknown recipe and for an option that it does not use, `BudgetError`
    for a budget that cannot be read.
    """
    from tasm.compress.recipes.table import find_recipe
    from tasm.compress.sizes import parse_size

    found = find_recipe(recipe)
    for name, size in (("core", core), ("bank", bank)):
        if size is not None and (name, size) != ("core", "auto"):
            parse_size(size, name)
    if found.kind == "prompt":
        raise RecipeError(
            f"The recipe {recipe!r} is an ordinary prompt: there is no memory to build. It is a "
            "reference of `tasm bench accuracy`."
        )
    if core is not None and core != "auto" and not found.takes_core:
        why = "keeps everything" if found.keeps_everything else "has a bound of its own"
        raise RecipeError(
            f"--core {core} has no effect: the recipe {recipe!r} {why}. Leave --core out, or "
            "choose another --recipe."
        )
    if bank is not None and found.keeps_everything:
        raise RecipeError(
            f"--bank {bank} has no effect: the recipe {recipe!r} keeps everything in the core. "
            "Leave --bank out, or choose another --recipe."
        )
    if seed is not None and not polish and not _draws(found, bank):
        raise RecipeError(
            f"--seed {seed} has no effect: the recipe {recipe!r} draws nothing at random. Leave "
            "--seed out, or choose another --recipe."
        )


def _draws(recipe: "Recipe", bank: str | None) -> bool:
    """Whether a build draws at random; what is not known to be free of it does."""
    from tasm.compress.recipes.parts import DRAWING
    from tasm.compress.recipes.table import RECIPES

    if RECIPES.get(recipe.name) is not recipe:
        return True
    if recipe.bank_choice == "random" and (bank or recipe.bank) not in ("0", "0%"):
        return True
    tried = [recipe.parts, *(other.parts for other in recipe.others)]
    return any(
        part.name in DRAWING or part.settings.get("direction") == "random"
        for parts in tried
        for part in parts.values()
    )


def check_room_for(
    backbone: "Backbone",
    demonstrations: "Sequence[Demonstration]",
    settings: Mapping[str, Any],
    out: Path,
) -> None:
    """Refuse to build what the disk has no room for.

    What a memory will take is known exactly only from the tokens, which costs a second reading of
    all pictures; so that is looked at only where the disk holds less than a few full contexts.
    """
    from tasm.compress.plan import plan

    free = free_bytes(out)
    if free is None:
        return
    geometry = backbone.geometry
    token_bytes = geometry.layers * geometry.kv_heads * (2 * geometry.head_dim * 4 + 16) + 64
    if free > 8 * token_bytes * (geometry.max_positions or 1_000_000):
        return
    planned = plan(backbone, demonstrations, notice=lambda sentence: None, **settings)
    pictures = sum(len(one.pictures) for one in demonstrations)
    beside = 10_000 * pictures + 2_000 * len(demonstrations) + 100_000
    check_writable(out, planned["core_bytes"] + planned["bank_bytes"] + beside)


def read_files(conversations: "Iterable[Conversation]") -> list[Path]:
    """Return the picture files of demonstrations or queries, which no output may replace."""
    paths = (picture.path for one in conversations for picture in one.pictures)
    return [path for path in paths if path is not None]


def smallest_core(
    backbone: "Backbone", demonstrations: "Sequence[Demonstration]", **settings: Any
) -> str:
    """Return the core that `tasm tune` would take with its own target; says why."""
    from tasm.sizing import tune

    recipe = settings.pop("recipe")
    with Progress() as progress:
        tuned = tune(
            backbone, demonstrations, recipes=recipe, progress=progress, notice=warn, **settings
        )
    if tuned.chosen is None or tuned.chosen.core is None:
        raise InputError(f"{tuned.why} Give --core a size, such as 20%.")
    say(tuned.why)
    return tuned.chosen.core


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
    from tasm.compress.api import build
    from tasm.view.thumbnails import thumbnails

    check_room_for(backbone, demonstrations, settings, out)
    started = time.perf_counter()
    with Progress() as progress:
        memory = build(backbone, demonstrations, progress=progress, notice=warn, **settings)
    return save_built(
        memory,
        lambda: thumbnails(demonstrations),
        out,
        overwrite=overwrite,
        keep_demonstrations=keep_demonstrations,
        load_seconds=load_seconds,
        started=started,
    )


def save_built(
    memory: "TaskMemory",
    pictures: Callable[[], Mapping[str, bytes]],
    out: Path,
    *,
    overwrite: bool,
    keep_demonstrations: bool,
    load_seconds: float,
    started: float,
) -> dict[str, Any]:
    """Save a memory to `out`, without texts, pictures and places of the demonstrations where they
    are not kept (ids, spans and hashes stay); return the document of `tasm build --json`."""
    built = time.perf_counter()
    if not keep_demonstrations:
        entries = [entry.without_content() for entry in memory.demonstrations]
        memory = memory.replaced(demonstrations=entries)
    kept = pictures() if keep_demonstrations else {}
    check_out_memory(out, overwrite)  # what came to be there meanwhile is not replaced either
    file_bytes = memory.save(out, overwrite=overwrite, pictures=kept)
    saved = time.perf_counter()
    report, seconds = memory.report, memory.report["seconds"]
    notes = memory.recipe.get("notes", {})
    polish = notes.get("polish")
    counted = ("demonstrations", "tokens", "core_tokens", "bank_tokens")
    return {
        "memory": str(out),
        "model": memory.model_name,
        "recipe": memory.recipe["name"],
        "mode": report["mode"],
        **{name: report[name] for name in counted},
        "full_bytes": memory.full_bytes,
        "core_bytes": memory.core_bytes,
        "bank_bytes": memory.bank_bytes,
        "file_bytes": file_bytes,
        "peak_memory_bytes": report["peak_memory_bytes"],
        "tried": notes.get("tried", {}),
        "taken": notes.get("taken"),
        "seconds": {
            "load": load_seconds,
            **{name: seconds[name] for name in ("encode", "score", "reduce", "trial")},
            "save": saved - built,
            "total": load_seconds + saved - started,
            **({"polish": seconds["polish"]} if polish else {}),
        },
        **({"polish": polish} if polish else {}),
    }


def built_for_people(document: Mapping[str, Any]) -> str:
    """Return what `tasm build` prints without `--json`."""
    from tasm.cli.text import bytes_text, core_text, seconds_text
    from tasm.compress.recipes.table import all_recipes

    core, bank, full = (document[name] for name in ("core_bytes", "bank_bytes", "full_bytes"))
    bank_line = f"; {bytes_text(bank)} in the bank" if bank else ""
    recipe = all_recipes().get(document["recipe"])
    whose = f"\n{recipe.name}: {recipe.whose}." if recipe and recipe.whose else ""
    return (
        f"{document['memory']}: {document['demonstrations']} demonstrations, "
        f"{document['tokens']:,.0f} tokens, in {seconds_text(document['seconds']['total'])}.\n"
        f"Core {core_text(core, full)}{bank_line}.{_tried_for_people(document)}{whose}"
    )


def _tried_for_people(document: Mapping[str, Any]) -> str:
    """What was tried, what that changed of the answers and what it took; the same of a polish."""
    said, tried, seconds = "", document["tried"], document["seconds"]
    if len(tried) == 1:
        (nats,) = tried.values()
        said += f"\nAnswers change by {nats:.2g} nats (tried in {seconds['trial']:.1f} s): "
        said += "nothing else needed trying."
    elif tried:
        each = ", ".join(f"{name} {nats:.2g}" for name, nats in tried.items())
        said += f"\nTried in {seconds['trial']:.1f} s (nats by which answers change): {each}; "
        said += f"took {document['taken']}."
    if (polish := document.get("polish")) is not None:
        before, after, step = polish["before"], polish["after"], polish["step"]
        said += f"\nPolished in {seconds['polish']:.1f} s: left-out questions are "
        said += f"{after if step else before:.2g} nats from all demonstrations, "
        said += f"before {before:.2g} (step {step})." if step else "and it stayed as it was."
    return said
