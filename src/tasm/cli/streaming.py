"""`tasm build --mode streaming`: demonstrations are read as they are needed, and a build that broke
off goes on."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasm.cli.building import document_of, without_demonstrations
from tasm.cli.files import check_out_memory
from tasm.cli.frame import say, warn
from tasm.cli.progress import Progress
from tasm.errors import InputError

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone

ENDING = ".unfinished"
"""What the folder beside the output is called while a build is not done."""


def check_resuming(out: Path | None, mode: str, resume: bool) -> None:
    """Refuse `--resume` where it means nothing, and to begin anew over an unfinished build."""
    if resume and (mode != "streaming" or out is None):
        with_what = "--plan" if out is None else f"--mode {mode}"
        raise InputError(
            f"--resume has no effect with {with_what}: only builds of --mode streaming go on where "
            "they ended. Leave it out."
        )
    if mode != "streaming" or out is None:
        return
    place = unfinished_folder(out)
    if place.exists() and not resume:
        raise InputError(
            f"An unfinished build of {out} lies in {place}. Go on with it (--resume), or delete "
            "that folder to begin anew."
        )
    if resume and not place.exists():
        say(f"Notice: There is no unfinished build of {out}; this one begins anew.")


def unfinished_folder(out: Path) -> Path:
    """Return where the state of a build of `out` lies."""
    return out.with_name(out.name + ENDING)


def stream_and_save(
    backbone: "Backbone",
    demonstrations: Path,
    settings: Mapping[str, Any],
    out: Path,
    *,
    question: str | None,
    skip_bad_rows: bool,
    overwrite: bool,
    keep_demonstrations: bool,
    load_seconds: float,
) -> dict[str, Any]:
    """Build a memory of what a file or folder holds, save it to `out` and return the document of
    `tasm build --json`."""
    from tasm.compress.api import build_arriving
    from tasm.compress.settings import Settings
    from tasm.compress.streams.unfinished import Unfinished
    from tasm.view.thumbnails import LaterThumbnails

    unfinished = Unfinished(unfinished_folder(out))
    started = time.perf_counter()
    try:
        with Progress() as progress:
            memory = build_arriving(
                backbone,
                demonstrations,
                Settings.of(**settings),
                question=question,
                skip_bad_rows=skip_bad_rows,
                progress=progress,
                notice=warn,
                unfinished=unfinished,
            )
        built = time.perf_counter()
        pictures = LaterThumbnails(memory.demonstrations if keep_demonstrations else ())
        if not keep_demonstrations:
            memory = without_demonstrations(memory)
        check_out_memory(out, overwrite)  # what came to be there meanwhile is not replaced either
        file_bytes = memory.save(out, overwrite=overwrite, pictures=pictures)
    except BaseException:
        if unfinished.exists:
            say(f"What was read so far lies in {unfinished.folder}: go on with --resume.")
        raise
    unfinished.remove()
    saved = time.perf_counter()
    total = load_seconds + saved - started
    return document_of(memory, out, file_bytes, load_seconds, saved - built, total)
