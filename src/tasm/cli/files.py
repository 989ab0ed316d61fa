"""Writing what a command makes: never over something by accident, never over what is read, never
by halves, never inside a memory; and said before the work, not after it."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tasm.errors import InputError, WorkError
from tasm.folders import naming

MANIFEST = "memory.json"  # of a memory; its own module takes torch to import
METADATA = ("metadata.jsonl", "metadata.csv")
SMALL = 1_000_000
"""Bytes asked for where nobody knows yet how many it will be."""

_TEMPORARY = ".12345678.partial"  # as long as what a name gets while it is being written


def check_out(
    path: Path,
    overwrite: bool,
    *,
    option: str = "--out",
    inputs: Iterable[Path | None] = (),
    needed: int = SMALL,
) -> None:
    """Refuse, before any work is done, an output that exists or cannot be written.

    Raises `InputError` where `path` is one of `inputs` or holds one, exists without `--overwrite`,
    lies inside a memory, or cannot be made where it is wanted; `WorkError` where the disk has less
    than `needed` bytes free. Folders above it are made when it is written. `option` is what gave
    the path.
    """
    check_outside(path, option=option)
    check_no_input(path, inputs, option=option)
    if os.path.lexists(path):
        if not overwrite:
            raise InputError(
                f"{path} exists already. Give another {option}, or --overwrite to replace it."
            )
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise InputError(
                f"{path} is a device, a pipe or a socket, which is not replaced. Give another "
                f"{option}."
            )
    above = _place(path, option)
    check_room(path, needed, above)


def check_out_file(
    path: Path,
    overwrite: bool,
    *,
    option: str = "--out",
    inputs: Iterable[Path | None] = (),
) -> None:
    """Refuse what `check_out` refuses, and a folder where a file is to be written."""
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; expected the name of a file. Give another {option}.")
    check_out(path, overwrite, option=option, inputs=inputs)


def check_out_memory(
    path: Path, overwrite: bool, *, inputs: Iterable[Path | None] = (), needed: int = SMALL
) -> None:
    """Refuse what `check_out` refuses, and to overwrite what is no memory."""
    if overwrite and os.path.lexists(path):
        check_outside(path)
        from tasm.memory.disk.folder import check_replaceable  # takes torch to import

        check_replaceable(path, "Give another --out.")
    check_out(path, overwrite, inputs=inputs, needed=needed)


def check_out_folder(
    path: Path, names: Iterable[str], *, option: str = "--out", inputs: Iterable[Path | None] = ()
) -> None:
    """Refuse a folder to write `names` into that is something else or cannot be written.

    The folder may exist; what is there under `names` is replaced, so none of it may be an input.
    """
    check_outside(path / "file", option=option)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise InputError(f"{option} {path} is a file; expected a folder, or a name that is free.")
    known = list(inputs)
    for name in names:
        check_no_input(path / name, known, option=option)
    check_room(path, SMALL, _place(path / "file", option))


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


def check_no_input(path: Path, inputs: Iterable[Path | None], *, option: str = "--out") -> None:
    """Raise `InputError` where writing `path` would replace what the command reads.

    Links, hard links and other ways to write the same path count as the same file.
    """
    real = Path(os.path.realpath(path))
    for given in inputs:
        if given is None or not os.path.lexists(given):
            continue
        read = Path(os.path.realpath(given))
        same = read == real or (os.path.exists(path) and os.path.samefile(path, read))
        if same or (real in read.parents and os.path.isdir(path)):
            raise InputError(
                f"{path} {'is' if same else 'holds'} what is read here ({given}), and writing it "
                f"would replace that. Give another {option}."
            )


def check_beside(path: Path, folder: Path | None, what: str, *, option: str = "--out") -> None:
    """Raise `InputError` where `path` lies inside a folder whose every file counts: a model's, or
    one with a sub-folder a class."""
    if folder is None or not os.path.isdir(folder):
        return
    real = Path(os.path.realpath(folder))
    if real in Path(os.path.realpath(path)).parents or real == Path(os.path.realpath(path)):
        raise InputError(
            f"{path} lies inside {folder}, {what}, which it would change. Give another {option}."
        )


def class_folder(place: Path | None) -> Path | None:
    """Return `place` where it is a folder whose sub-folders are classes, otherwise None."""
    if place is None or not os.path.isdir(place):
        return None
    return None if any((place / name).is_file() for name in METADATA) else place


def check_room(path: Path, needed: int, above: Path | None = None) -> None:
    """Raise `WorkError` where the disk of `path` has less than `needed` bytes free."""
    folder = above or existing_above(path)
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # some file systems do not say
        return
    if free < needed:
        raise WorkError(
            f"The disk is full: {folder} has {free / 1e6:,.1f} MB free, and {path} needs about "
            f"{needed / 1e6:,.1f} MB. Make room, or choose a place on another disk."
        )


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: to a temporary sibling, synced, then renamed.

    Raises `InputError` or `OSError`, both of which name `path`.
    """
    with naming(path):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=path.absolute().parent, prefix=f".{path.name[:40]}-"
        )
    with naming(path, temporary):
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def existing_above(path: Path) -> Path:
    """Return the nearest folder above that is there."""
    return next(folder for folder in path.absolute().parents if os.path.lexists(folder))


def _place(path: Path, option: str) -> Path:
    """Return the nearest folder above that is there, in which something could just be made."""
    above = existing_above(path)
    if not above.is_dir():
        raise InputError(f"{path} cannot be made: {above} is no folder. Give another {option}.")
    try:
        os.lstat(path.absolute().parent / f".{path.name}{_TEMPORARY}")
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            longest = max(len(os.fsencode(part)) for part in path.absolute().parts)
            raise InputError(
                f"{path} cannot be made: the name is too long (the longest part has {longest} "
                f"bytes, the whole path {len(os.fsencode(path.absolute()))}). Give a shorter "
                f"{option}."
            ) from error
    try:
        os.rmdir(tempfile.mkdtemp(dir=above, prefix=".tasm-"))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise InputError(
            f"{path} cannot be made: {above} must not be written to ({error.strerror}). Give "
            f"another {option}."
        ) from error
    return above


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
