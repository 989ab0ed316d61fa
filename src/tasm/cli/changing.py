"""`tasm add`, `tasm remove`, `tasm merge`: memories that grow, shrink and are put together."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from tasm.cli import options
from tasm.cli.building import read_files
from tasm.cli.files import check_no_input, check_out_memory
from tasm.cli.frame import Result, command, warn
from tasm.cli.opening import check_here, open_memory, open_model, read_rows
from tasm.cli.progress import Progress

if TYPE_CHECKING:
    from tasm.memory import TaskMemory

SkipBadRows = Annotated[
    bool, Option("--skip-bad-rows", help="Add without the rows that cannot be read.")
]
Ids = Annotated[
    list[str], Argument(metavar="ID...", help="Which demonstrations; `tasm show` lists them.")
]
Memories = Annotated[
    list[Path], Argument(metavar="MEMORY...", help="Two or more folders of task memories.")
]


@command
def add(
    memory: options.LocalMemory,
    demonstrations: options.DemonstrationsPath,
    model: options.ModelPlace = None,
    question: options.Question = None,
    skip_bad_rows: SkipBadRows = False,
) -> Result:
    """Add demonstrations to a memory; what it holds is not read again.

    In a memory of mode independent a new demonstration is read as all others were. In a joint or
    streaming one it is read after what was kept of them, and that is said.

    \b
    Examples:
      tasm add birds.tasm more.jsonl
      tasm add birds.tasm photos/ --question "Which bird is this?"
    """
    from tasm.compress.changing import add as add_to
    from tasm.view.thumbnails import thumbnails

    check_here(memory)
    old = open_memory(memory)
    check_out_memory(memory, overwrite=True, inputs=[demonstrations])
    rows = read_rows(demonstrations, question, skip_bad_rows=skip_bad_rows)
    check_no_input(memory, read_files(rows), option="MEMORY")
    loaded = open_model(old, model)
    with Progress() as progress:
        new = add_to(old, loaded.backbone, rows, progress=progress, notice=warn)
    texts_stay = any(one.question is not None for one in old.demonstrations)
    return _saved(old, new, memory, thumbnails(rows) if texts_stay else {})


@command
def remove(
    memory: options.LocalMemory,
    ids: Ids,
    model: options.ModelPlace = None,
) -> Result:
    """Remove demonstrations from a memory of mode independent; nothing of them stays in it.

    \b
    Examples:
      tasm remove birds.tasm wren-17
      tasm remove birds.tasm 3f2a9c0d11e0b7aa 90be41c7d2f35568
    """
    from tasm.compress.changing import check_removable
    from tasm.compress.changing import remove as remove_from

    check_here(memory)
    old = open_memory(memory)
    check_removable(old, ids)
    check_out_memory(memory, overwrite=True)
    loaded = open_model(old, model)
    return _saved(old, remove_from(old, loaded.backbone, ids, notice=warn), memory, {})


@command
def merge(
    memories: Memories,
    out: options.NewMemory,
    model: options.ModelPlace = None,
    overwrite: options.Overwrite = False,
) -> Result:
    """Make one memory of several of mode independent.

    \b
    Examples:
      tasm merge birds.tasm bees.tasm --out both.tasm
    """
    from tasm.compress.changing import merge as merge_all

    check_out_memory(out, overwrite, inputs=memories)
    opened = [open_memory(place) for place in memories]
    loaded = open_model(opened[0], model)
    new = merge_all(loaded.backbone, opened, notice=warn)
    pictures = {name: data for one in opened for name, data in one.thumbnails().items()}
    new.save(out, overwrite=overwrite, pictures=_shown(new, pictures))
    return _result(new, out, added=len(new.demonstrations), removed=0)


def _saved(
    old: "TaskMemory", new: "TaskMemory", place: Path, pictures: Mapping[str, bytes]
) -> Result:
    """Write a changed memory where the old one was, unless another process changed that."""
    before, after = ({one.id for one in each.demonstrations} for each in (old, new))
    if new is not old:
        known = {**old.thumbnails(), **pictures}
        new.save(place, overwrite=True, pictures=_shown(new, known), replacing=old.digest)
    return _result(new, place, added=len(after - before), removed=len(before - after))


def _shown(memory: "TaskMemory", pictures: Mapping[str, bytes]) -> dict[str, bytes]:
    """The thumbnails of pictures that the memory's demonstrations show."""
    wanted = {picture.sha256 for one in memory.demonstrations for picture in one.pictures}
    return {name: data for name, data in pictures.items() if name in wanted}


def _result(memory: "TaskMemory", place: Path, added: int, removed: int) -> Result:
    from tasm.cli.text import bytes_text

    count, core, bank = len(memory.demonstrations), memory.core_bytes, memory.bank_bytes
    document = {
        "memory": str(place),
        "demonstrations": count,
        "added": added,
        "removed": removed,
        "core_bytes": core,
        "bank_bytes": bank,
    }
    more = f" and {bytes_text(bank)} in the bank" if bank else ""
    return Result(
        document,
        f"{place}: {count} demonstrations ({added} added, {removed} removed), core "
        f"{bytes_text(core)}{more}.",
    )
