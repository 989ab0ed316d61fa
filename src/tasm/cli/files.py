"""Writing what a command makes: never over something by accident, never by halves, never inside a
memory."""

import os
import tempfile
from pathlib import Path

from tasm.errors import InputError
from tasm.folders import naming

MANIFEST = "memory.json"  # of a memory; its own module takes torch to import


def check_out(path: Path, overwrite: bool, *, option: str = "--out") -> None:
    """Refuse, before any work is done, an output that exists or cannot be written.

    Raises `InputError` where `path` exists without `--overwrite`, lies inside a memory, or cannot
    be made where it is wanted. Folders above it are made when it is written. `option` is what gave
    the path.
    """
    check_outside(path, option=option)
    if os.path.lexists(path) and not overwrite:
        raise InputError(
            f"{path} exists already. Give another {option}, or --overwrite to replace it."
        )
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        found = "is no folder" if not above.is_dir() else "must not be written to"
        raise InputError(f"{path} cannot be made: {above} {found}. Give another {option}.")


def check_out_file(path: Path, overwrite: bool, *, option: str = "--out") -> None:
    """Refuse what `check_out` refuses, and a folder where a file is to be written."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the name of a file. Give another {option}.")
    check_out(path, overwrite, option=option)


def check_out_memory(path: Path, overwrite: bool) -> None:
    """Refuse what `check_out` refuses, and to overwrite what is no memory."""
    check_out(path, overwrite)
    if os.path.lexists(path):
        from tasm.memory.disk.folder import check_replaceable  # takes torch to import

        check_replaceable(path, "Give another --out.")


def check_outside(path: Path, *, option: str = "--out") -> None:
    """Raise `InputError` where `path` lies inside a memory's folder, at any depth."""
    above = Path(os.path.realpath(path.absolute().parent))
    for folder in (above, *above.parents):
        likely = folder.suffix == ".tasm" or os.path.isfile(folder / MANIFEST)
        if likely and any(folder.glob("core-*.safetensors")):
            raise InputError(
                f"{path} lies inside the task memory {folder}, which holds nothing but its own "
                f"files. Give another {option}, outside of it."
            )


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: to a temporary sibling, synced, then renamed.

    Raises `InputError` or `OSError`, both of which name `path`.
    """
    with naming(path):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}-")
    with naming(path, temporary):
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
