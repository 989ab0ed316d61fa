"""Places to write to and files to read: judged before the work, named in every error."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from tasm.arguments import path as a_path
from tasm.errors import InputError, WorkError

PARTIAL = ".partial"
_ANOTHER = "Choose another place or name."
_SPARE = 1 << 20  # bytes beside the tensors: a manifest, the folder itself
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def output_path(path: object, name: str = "path") -> Path:
    """A path to write to, as a `Path`; it must have a name of its own, unlike `.` and `/`.

    Raises:
        InputError: it is no path, an empty one, or has no name.
    """
    chosen = a_path(path, name, "the file or folder to write")
    if chosen.name in ("", ".."):
        raise InputError(
            f"{name} is {str(chosen)!r}, which has no name of its own; expected a name, such as "
            f"{str(chosen / 'birds.tasm')!r}."
        )
    return chosen


def check_writable(path: object, needed: int = 0, instead: str = _ANOTHER) -> None:
    """Refuse, before any work is done, a place where nothing can be written.

    It tries: a file without a name is made beside `path` (or inside, where it is a folder).

    ```python
    check_writable("birds.tasm", needed=40_000_000)
    ```

    Args:
        path: the file or folder to be written; folders above it need not exist yet.
        needed: bytes that will be written.
        instead: ends a sentence about a place that will not do.

    Raises:
        InputError: an empty path, a name that is too long, a place that cannot be written to.
        WorkError: the disk has less room than `needed`.
    """
    chosen = output_path(path)
    try:
        above = _nearest_folder(chosen, instead)
        with naming_work(chosen, instead=instead):
            _probe(above, chosen)
            free = shutil.disk_usage(above).free
    except RuntimeError as error:  # links that lead to one another
        raise InputError(f"{chosen} cannot be written: {error}. {instead}") from error
    if free < needed + _SPARE:
        raise WorkError(
            f"The disk is full: {chosen} needs {needed:,} bytes, and the disk at {above} has "
            f"{free:,} left. Free some space or choose another place; nothing was written."
        )


def free_bytes(path: Path) -> int | None:
    """Bytes that are free where `path` is or would be; None where the system does not say."""
    with contextlib.suppress(OSError, InputError):
        return shutil.disk_usage(_nearest_folder(path)).free
    return None


def _nearest_folder(path: Path, instead: str = _ANOTHER) -> Path:
    """`path` itself where it is a folder, else the nearest one above it."""
    for folder in (path.absolute(), *path.absolute().parents):
        try:
            is_there, is_folder = True, stat.S_ISDIR(folder.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            is_there, is_folder = folder.is_symlink(), False  # a link to nowhere, or nothing
        except OSError as error:
            raise _place_error(path, error, instead) from error
        if is_folder:
            return folder
        if is_there and folder != path.absolute():
            raise InputError(f"{path} cannot be written: {folder} is no folder. {instead}")
    raise InputError(f"{path} cannot be written: there is no folder above it.")


def _probe(above: Path, path: Path) -> None:
    """Make and remove what a writer would make first, under a name as long as its own."""
    missing = path.absolute().relative_to(above).parts if above != path.absolute() else ()
    for part in (*missing, path.name):
        if len(os.fsencode(part)) > 255:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    with contextlib.suppress(OSError, AttributeError):
        # A file without a name, which the system drops with its process, however that ends.
        os.close(os.open(above, os.O_TMPFILE | os.O_WRONLY, 0o600))
        return
    probe = above / partial_name(path.name)
    probe.mkdir()
    with contextlib.suppress(FileNotFoundError):  # another writer took it for abandoned
        probe.rmdir()


def partial_name(name: str) -> str:
    """What a thing is called while it is made; the longest names are cut, so that each has one."""
    return f".{cut(name)}.{secrets.token_hex(4)}{PARTIAL}"


def cut(name: str) -> str:
    """A name, short enough for what `partial_name` puts around it."""
    return os.fsdecode(os.fsencode(name)[:230])


@contextlib.contextmanager
def naming_work(path: Path, inside: Path | None = None, instead: str = _ANOTHER) -> Iterator[None]:
    """Turn an `OSError` into a sentence about `path`, which is what the user gave.

    With `inside`, errors that name a file elsewhere stay as they are.

    Raises:
        InputError: nothing can be written at that place.
        WorkError: the disk is full, or fails.
    """
    try:
        yield
    except OSError as error:
        named = None if error.filename is None else str(error.filename)
        if inside is not None and named is not None and not named.startswith(str(inside)):
            raise
        raise _place_error(path, error, instead) from error


_NO_PLACE = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
}


def _place_error(path: Path, error: OSError, instead: str) -> InputError | WorkError:
    shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:80]}…{str(path)[-40:]}"
    why = error.strerror or str(error)
    if error.errno in _FULL:
        return WorkError(
            f"The disk is full: {shown} could not be written ({why}). Free some space and try "
            "again; nothing half-written was left."
        )
    if error.errno in _NO_PLACE:
        return InputError(f"{shown} cannot be written: {why}. {instead}")
    return WorkError(f"{shown} could not be written: {why}.")


# ---------------------------------------------------------------------- reading


def read_regular(path: Path, largest: int) -> bytes:
    """The bytes of an ordinary file; never waits for a pipe, never reads more than `largest`.

    Raises:
        OSError: it is missing, no ordinary file (`EINVAL`), or larger (`EFBIG`).
    """
    size = regular_size(path)
    if size > largest:
        raise OSError(errno.EFBIG, f"it has {size:,} bytes, at most {largest:,} are expected")
    with open(path, "rb") as file:
        return file.read(largest + 1)


def regular_size(path: Path) -> int:
    """The size of an ordinary file; raises OSError (`EINVAL`) for a pipe, a device, a folder."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file")
    return status.st_size
