"""Files that are written whole or not at all, and what killed writers left behind.

What is unfinished is called `.NAME.XXXXXXXX.partial` and lies beside what it becomes; its writer
holds a lock (`flock`) on it, which the system drops with the process. So the next writer to the
same place knows what nobody will finish, and removes it. Knows files; nothing of memories.

```python
check_writable(Path("birds.tasm"), 40_000_000)        # before the work
with new_folder(Path("birds.tasm")) as folder:        # in place when all went well, or not at all
    write_bytes(folder / "notes.txt", b"...")
```
"""

import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasm.arguments import path as a_path
from tasm.errors import InputError, WorkError

PARTIAL = ".partial"
_SPARE = 1 << 20  # bytes beside the tensors: a manifest, the folder itself
_BINARY = getattr(os, "O_BINARY", 0)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


# ---------------------------------------------------------------------- before the work


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


def check_writable(path: object, needed: int = 0) -> None:
    """Refuse, before any work is done, a place where nothing can be written.

    It tries: a probe beside `path` (or inside, where it is a folder) is made and removed again.

    ```python
    check_writable("birds.tasm", needed=40_000_000)
    ```

    Args:
        path: the file or folder to be written; folders above it need not exist yet.
        needed: bytes that will be written.

    Raises:
        InputError: an empty path, a name that is too long, a place that cannot be written to.
        WorkError: the disk has less room than `needed`.
    """
    chosen = output_path(path)
    try:
        above = _nearest_folder(chosen)
        with naming_work(chosen):
            _probe(above, chosen)
            free = shutil.disk_usage(above).free
    except RuntimeError as error:  # links that lead to one another
        raise InputError(f"{chosen} cannot be written: {error}. Choose another place.") from error
    if needed and free < needed + _SPARE:
        raise WorkError(
            f"{chosen} needs {needed:,} bytes, and the disk at {above} has {free:,} left. Free "
            "some space or choose another place; nothing was written."
        )


def _nearest_folder(path: Path) -> Path:
    """`path` itself where it is a folder, else the nearest one above it."""
    for folder in (path.absolute(), *path.absolute().parents):
        try:
            mode = folder.stat().st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _place_error(path, error) from error
        if stat.S_ISDIR(mode):
            return folder
        if folder != path.absolute():
            raise InputError(
                f"{path} cannot be written: {folder} is a file, not a folder. Choose another place."
            )
    raise InputError(f"{path} cannot be written: there is no folder above it.")


def _probe(above: Path, path: Path) -> None:
    """Make and remove what a writer would make first, under a name as long as its own."""
    missing = path.absolute().relative_to(above).parts if above != path.absolute() else ()
    for part in (*missing, path.name):
        if len(os.fsencode(part)) > 255:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    probe = above / f".{secrets.token_hex(8)}{PARTIAL}"
    probe.mkdir()
    probe.rmdir()


# ---------------------------------------------------------------------- errors


@contextlib.contextmanager
def naming_work(path: Path) -> Iterator[None]:
    """Turn an `OSError` into a sentence about `path`, which is what the user gave.

    Raises:
        InputError: nothing can be written at that place.
        WorkError: the disk is full, or fails.
    """
    try:
        yield
    except OSError as error:
        raise _place_error(path, error) from error


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


def _place_error(path: Path, error: OSError) -> InputError | WorkError:
    shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:80]}…{str(path)[-40:]}"
    why = error.strerror or str(error)
    if error.errno in _FULL:
        return WorkError(
            f"{shown} could not be written: {why}. Free some space and try again; "
            "nothing half-written was left."
        )
    if error.errno in _NO_PLACE:
        return InputError(f"{shown} cannot be written: {why}. Choose another place or name.")
    return WorkError(f"{shown} could not be written: {why}.")


# ---------------------------------------------------------------------- writing


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: beside its place, synced, then renamed.

    Raises:
        OSError: as the system says; `naming_work` makes a sentence of it.
    """
    partial, handle = _locked_file(path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if os.name != "nt":  # where an open file cannot be renamed, there is no lock to keep
                os.replace(partial, path)
        if os.name == "nt":
            os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _locked_file(path: Path) -> tuple[Path, int]:
    """Make the hidden file and lock it; anew where a sweep took it before it was locked."""
    while True:
        partial = path.with_name(_partial_name(path.name))
        handle = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _BINARY, 0o666)
        if _flock(handle, wait=True) is None or _is_at(handle, partial):
            return partial, handle
        os.close(handle)


def write_json(path: Path, document: Any) -> None:
    """Write JSON, indented by one space, as `write_bytes` does."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill; when all went well it becomes `path`, which must not hold anything.

    ```python
    with new_folder(Path("birds.tasm")) as folder:
        write_bytes(folder / "memory.json", data)
    ```

    Raises:
        OSError: as the system says; nothing is left then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    sibling, handle = _locked_sibling(path)
    try:
        yield sibling
        sync_folder(sibling)
        os.rename(sibling, path)
    except BaseException:
        shutil.rmtree(sibling, ignore_errors=True)
        raise
    finally:
        if handle is not None:
            os.close(handle)
    sync_folder(path.parent)


def _locked_sibling(path: Path) -> tuple[Path, int | None]:
    """Make the hidden folder and lock it; anew where a sweep took it before it was locked."""
    while True:
        sibling = path.with_name(_partial_name(path.name))
        sibling.mkdir()
        handle = _open_locked(sibling, wait=True)
        if handle is None and sibling.is_dir():
            return sibling, None  # no locks here
        if handle is not None:
            if _is_at(handle, sibling):
                return sibling, handle
            os.close(handle)


def _partial_name(name: str) -> str:
    # Cut, so that a name of the greatest length has one, too.
    ending = f".{secrets.token_hex(4)}{PARTIAL}"
    return f".{_cut(name)}{ending}"


def _cut(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:230])


def remove_leftovers(path: Path) -> list[Path]:
    """Remove what killed writers left beside `path`; what a live one holds stays.

    Returns:
        What was removed. Without file locks (Windows) nothing is.
    """
    removed = []
    start = f".{_cut(path.name)}."
    with contextlib.suppress(OSError):
        for leftover in list(path.absolute().parent.iterdir()):
            middle = leftover.name.removeprefix(start).removesuffix(PARTIAL)
            if leftover.name != f"{start}{middle}{PARTIAL}" or not _is_token(middle):
                continue
            if leftover.is_symlink() or (handle := _open_locked(leftover, wait=False)) is None:
                continue
            try:
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink(missing_ok=True)
                removed.append(leftover)
            finally:
                os.close(handle)
    return removed


def _is_token(text: str) -> bool:
    return len(text) == 8 and set(text) <= set("0123456789abcdef")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---------------------------------------------------------------------- locks


@contextlib.contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold the right to change what is in a folder; readers need none.

    Raises:
        WorkError: another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY) if os.name != "nt" else None
    try:
        if handle is not None and _flock(handle, wait=False) is False:
            raise WorkError(
                f"Another process is writing to {folder}. Wait until it is done and try again."
            )
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _flock(handle: int, *, wait: bool) -> bool | None:
    """Whether the lock was got; None where there are none (Windows, some network disks)."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _open_locked(path: Path, *, wait: bool) -> int | None:
    """An open handle that holds the lock, or None where somebody else does, or there is none."""
    if os.name == "nt":
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    if _flock(handle, wait=wait):
        return handle
    os.close(handle)
    return None


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


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
