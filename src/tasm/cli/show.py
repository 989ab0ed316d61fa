"""`tasm show`: what is inside a memory, as a table, JSON or a page with heat maps."""

from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from tasm.cli.files import check_no_input, check_out_file
from tasm.cli.frame import Result, command, say
from tasm.cli.opening import open_memory, open_model
from tasm.cli.options import MemoryPath, ModelPlace, Overwrite, RecordedVisionMemory, file
from tasm.cli.progress import Progress
from tasm.errors import InputError
from tasm.files import write_text

if TYPE_CHECKING:
    from tasm.check.suspects import Suspect
    from tasm.memory import TaskMemory
    from tasm.memory.entry import PictureEntry

SHOWN_DEMONSTRATIONS = 20


@command
def show(
    memory: MemoryPath,
    html: Annotated[
        Path | None, file(help="Write a page with heat maps over the demonstrations' pictures.")
    ] = None,
    suspects: Annotated[
        bool,
        Option(
            "--suspects",
            help="List demonstrations that look mislabelled: each is asked its own question with "
            "itself masked. Loads the model.",
        ),
    ] = False,
    demonstrations: Annotated[
        Path | None,
        Option(
            metavar="DEMOS",
            help="With --suspects: the demonstrations, where the original files have moved.",
        ),
    ] = None,
    model: ModelPlace = None,
    vision_memory: RecordedVisionMemory = None,
    overwrite: Overwrite = False,
) -> Result:
    """Show what is inside a memory: demonstrations, sizes per layer, recipe and model.

    \b
    Examples:
      tasm show birds.tasm
      tasm show birds.tasm --html birds.html
      tasm show birds.tasm --suspects
    """
    for option, given in (
        ("--demonstrations", demonstrations),
        ("--model", model),
        ("--vision-memory", vision_memory),
    ):
        if given is not None and not suspects:
            raise InputError(f"{option} has no effect without --suspects. Leave it out.")
    if html is not None:
        check_out_file(html, overwrite, option="--html", inputs=[memory])
    elif overwrite:
        raise InputError("--overwrite has no effect without --html. Leave it out, or give --html.")
    opened = open_memory(memory)
    if html is not None:
        pictures = [place.path for entry in opened.demonstrations for place in entry.pictures]
        check_no_input(html, [Path(path) for path in pictures if path], option="--html")
        from tasm.view.memory_page import memory_page

        write_text(html, memory_page(opened, memory.resolve().name))
        say(f"Page written to {html}")
    if not suspects:
        return Result(opened.public(), lambda: _for_people(opened, memory))
    from tasm.check.suspects import suspects as find_suspects

    loaded = open_model(opened, model, vision_memory)
    with Progress() as progress:
        found = find_suspects(loaded, opened, demonstrations, progress=progress)
    document = {**opened.public(), "suspects": [one.to_json() for one in found]}
    return Result(document, lambda: _suspects(found, opened))


def _for_people(memory: "TaskMemory", place: Path) -> Any:
    from tasm.cli.text import bytes_text, core_text, table

    recipe = memory.recipe
    mode = (recipe.get("settings") or {}).get("mode", "joint")
    facts = (
        ("Model", memory.model_name or "wrapped in Python"),
        *([("Vision memory", memory.vision_memory)] if memory.vision_memory else []),
        ("Identity", f"{memory.identity.digest[:16]}…"),
        ("Recipe", f"{recipe.get('name', '?')}, {mode}"),
        ("Demonstrations", f"{len(memory.demonstrations):,}, {memory.logical_length:,} tokens"),
        ("Core", core_text(memory.core_bytes, memory.full_bytes)),
        ("Bank", bytes_text(memory.bank_bytes)),
        ("Full context", bytes_text(memory.full_bytes)),
    )
    summary = table(("", ""), facts, title=place.resolve().name)
    return [summary, _layers(memory), _demonstrations(memory)]


def _suspects(found: "Sequence[Suspect]", memory: "TaskMemory") -> Any:
    """The suspect ones, or where there are no labels to compare, those that fit least."""
    from tasm.cli.text import number_text, table

    has_labels = found[0].probability is not None
    shown = [one for one in found if one.is_suspect] if has_labels else found
    if not shown:
        return "No demonstration looks mislabelled: each has the answer that the others give it."
    title = "Demonstrations that look mislabelled, the most suspect first"
    if not has_labels:
        title = "Demonstrations by how little their answer was expected, the least first"
    entries = {entry.id: entry for entry in memory.demonstrations}
    rows = [
        (
            one.id,
            _pictures(entries[one.id].pictures),
            one.answer,
            one.instead,
            number_text(exp(one.log_probability) if not has_labels else one.probability, 3),
        )
        for one in shown
    ]
    columns = ("Demonstration", "Pictures", "Answer", "The others say", "Probability")
    return _first(table(columns, rows[:SHOWN_DEMONSTRATIONS], title=title), len(rows))


def _first(listing: Any, count: int) -> Any:
    """The table of the first of `count`, and how many more there are."""
    if count > SHOWN_DEMONSTRATIONS:
        listing.caption = f"and {count - SHOWN_DEMONSTRATIONS} more; --json lists all"
    return listing


def _layers(memory: "TaskMemory") -> Any:
    from tasm.cli.text import bytes_text, table
    from tasm.view.memory_page import counts_text

    held = memory.core if memory.packing is None else (None,) * len(memory.core_counts)
    banked = memory.bank_counts or (None,) * len(held)
    layers = zip(memory.core_counts, banked, held, memory.public()["layers"], strict=True)
    return table(
        ("Layer", "Core tokens a head", "Bank tokens a head", "Core"),
        (
            (
                number,
                counts_text(core),
                counts_text(bank),
                bytes_text(layer["core_bytes"] if kept is None else kept.nbytes),
            )
            for number, (core, bank, kept, layer) in enumerate(layers)
        ),
        right=("Layer", "Core"),
    )


def _demonstrations(memory: "TaskMemory") -> Any:
    from tasm.cli.text import table

    entries = memory.demonstrations
    if not entries:
        return "No demonstrations are recorded."
    rows = [
        (entry.id, _pictures(entry.pictures), entry.question, entry.answer)
        for entry in entries[:SHOWN_DEMONSTRATIONS]
    ]
    return _first(table(("Demonstration", "Pictures", "Question", "Answer"), rows), len(entries))


def _pictures(pictures: Sequence["PictureEntry"]) -> str:
    """The first picture's file name and how many more; their number where no name is recorded."""
    first = pictures[0].path if pictures else None
    if first is None:
        return str(len(pictures))
    more = len(pictures) - 1
    return Path(first).name + (f" and {more} more" if more else "")
