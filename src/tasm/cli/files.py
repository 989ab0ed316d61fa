"""Writing what a command makes: never over something by accident, never by halves."""

import os
import tempfile
from pathlib import Path

from tasm.errors import InputError


def check_out(path: Path, overwrite: bool) -> None:
    """Refuse, before any work is done, an output that exists or cannot be written.

    Raises `InputError` where `path` exists without `--overwrite`, or its folder does not.
    """
    if path.exists() and not overwrite:
        raise InputError(
            f"{path} exists already. Give another --out, or --overwrite to replace it."
        )
    parent = path.absolute().parent
    if not parent.is_dir():
        raise InputError(f"--out {path}: there is no folder {parent}. Make it first.")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: to a temporary sibling, synced, then renamed."""
    handle, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
