"""Writing what a command makes: never over something by accident, never by halves."""

import os
import tempfile
from pathlib import Path

from tasm.errors import InputError


def check_out(path: Path, overwrite: bool) -> None:
    """Refuse, before any work is done, an output that exists or cannot be written.

    Raises `InputError` where `path` exists without `--overwrite`, or cannot be made where it is
    wanted. Folders above it are made when it is written.
    """
    if path.exists() and not overwrite:
        raise InputError(
            f"{path} exists already. Give another --out, or --overwrite to replace it."
        )
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        found = "is no folder" if not above.is_dir() else "must not be written to"
        raise InputError(f"{path} cannot be made: {above} {found}. Give another --out.")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: to a temporary sibling, synced, then renamed."""
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
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
