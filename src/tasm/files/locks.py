"""Locks that the system drops with their process. Without them (Windows, some network disks)
nothing waits, and nothing is taken for abandoned."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tasm.errors import WorkError


@contextlib.contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold the right to change what is in a folder; readers need none.

    Raises:
        WorkError: another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY) if os.name != "nt" else None
    try:
        if handle is not None and flock(handle, wait=False) is False:
            raise WorkError(
                f"Another process is writing to {folder}. Wait until it is done and try again."
            )
        yield
    finally:
        if handle is not None:
            os.close(handle)


def flock(handle: int, *, wait: bool) -> bool | None:
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


def open_locked(path: Path, *, wait: bool) -> int | None:
    """An open handle that holds the lock, or None where somebody else does, or there is none."""
    if os.name == "nt":
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    if flock(handle, wait=wait):
        return handle
    os.close(handle)
    return None


def is_at(handle: int, path: Path) -> bool:
    """Whether an open handle is of what lies at `path` now."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
