"""`tasm build --mode streaming`: demonstrations are read as they are needed, and a build that broke
off goes on."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasm.cli.building import save_built
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
        document = save_built(
            memory,
            lambda: LaterThumbnails(memory.demonstrations),
            out,
            overwrite=overwrite,
            keep_demonstrations=keep_demonstrations,
            load_seconds=load_seconds,
            started=started,
        )
    except BaseException:
        if unfinished.exists:
            say(f"What was read so far lies in {unfinished.folder}: go on with --resume.")
        raise
    unfinished.remove()
    return document
