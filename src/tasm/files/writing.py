"""Files and folders put in place whole, or not at all; what killed writers left is removed."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from tasm.errors import InputError
from tasm.files.locks import flock, is_at, open_locked
from tasm.files.places import PARTIAL, cut, naming_work, partial_name

_BINARY = getattr(os, "O_BINARY", 0)


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
        partial = path.with_name(partial_name(path.name))
        handle = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _BINARY, 0o666)
        if flock(handle, wait=True) is None or is_at(handle, partial):
            return partial, handle
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a page or a table for a user: `write_bytes`, folders above made, leftovers removed.

    ```python
    write_text(Path("birds.html"), page)
    ```

    Raises:
        InputError: nothing can be written at that place.
        WorkError: the disk is full, or fails.
    """
    with naming_work(path):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_json(path: Path, document: Any) -> None:
    """Write JSON, indented by one space, as `write_bytes` does."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


@contextlib.contextmanager
def new_folder(path: Path, put: Callable[[Path, Path], None] | None = None) -> Iterator[Path]:
    """An empty folder to fill; when all went well it becomes `path`, which must not hold anything.

    ```python
    with new_folder(Path("birds.tasm")) as folder:
        write_bytes(folder / "memory.json", data)
    ```

    `put` moves the full folder to its place; None renames it.

    Raises:
        OSError: as the system says; nothing is left then.
    """
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    sibling, handle = _locked_sibling(path)
    try:
        yield sibling
        sync_folder(sibling)
        (put or os.rename)(sibling, path)
    except BaseException:
        shutil.rmtree(sibling, ignore_errors=True)
        raise
    finally:
        if handle is not None:
            os.close(handle)
    sync_folder(path.absolute().parent)


@contextlib.contextmanager
def whole_folder(out: Path, mark: str, names: Collection[str] | None = None) -> Iterator[Path]:
    """An empty folder to fill, which becomes `out` and replaces what a command made there before.

    A folder that is there is replaced only if `check_replaceable` lets it be; whether it may be
    replaced is for the caller to have asked. `names` is what the command makes, all that is there
    where it is None.

    ```python
    with whole_folder(Path("out/demo"), mark="report.html") as folder:
        write_text(folder / "report.html", page)
    ```

    Raises:
        InputError: `out` is something else, or nothing can be written there.
        WorkError: the disk is full, or fails.
    """
    if os.path.lexists(out):
        there = () if not out.is_dir() else tuple(path.name for path in out.iterdir())
        check_replaceable(out, mark, there if names is None else names)
    work = out.with_name(f".{cut(out.name)}.")
    with naming_work(out, inside=work), new_folder(out, _replace) as folder:
        yield folder


def check_replaceable(out: Path, mark: str, names: Collection[str]) -> None:
    """Raise `InputError` where `out` is there and holds anything but what a command makes.

    Such a folder has the file `mark`, and nothing whose name is not among `names`.

    ```python
    check_replaceable(Path("out/demo"), "report.html", ("report.html", "task"))
    ```
    """
    if not os.path.lexists(out):
        return
    if not (out / mark).is_file():
        raise InputError(
            f"{out} exists and has no {mark}, so it is none of these folders and is not replaced. "
            "Give another --out."
        )
    others = sorted(path.name for path in out.iterdir() if path.name not in names)
    if others:
        raise InputError(
            f"{out} also holds {others[0]}"
            f"{f' and {len(others) - 1} more' if len(others) > 1 else ''}, which this command did "
            "not write, so it is not replaced. Give another --out."
        )


def _replace(folder: Path, out: Path) -> None:
    """Put a folder in the place of what is there; what was there goes last."""
    if out.is_symlink():
        out.unlink()
    if not out.exists():
        os.rename(folder, out)
        return
    before = out.with_name(partial_name(out.name))
    os.rename(out, before)
    try:
        os.rename(folder, out)
    except BaseException:
        os.rename(before, out)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _locked_sibling(path: Path) -> tuple[Path, int | None]:
    """Make the hidden folder and lock it; anew where a sweep took it before it was locked."""
    while True:
        sibling = path.with_name(partial_name(path.name))
        sibling.mkdir()
        handle = open_locked(sibling, wait=True)
        if handle is None and sibling.is_dir():
            return sibling, None  # no locks here
        if handle is not None:
            if is_at(handle, sibling):
                return sibling, handle
            os.close(handle)


def remove_leftovers(path: Path) -> list[Path]:
    """Remove what killed writers left beside `path`; what a live one holds stays.

    Returns:
        What was removed. Without file locks (Windows) nothing is.
    """
    removed = []
    name = re.compile(re.escape(f".{cut(path.name)}.") + "[0-9a-f]{8}" + re.escape(PARTIAL))
    with contextlib.suppress(OSError):
        for leftover in list(path.absolute().parent.iterdir()):
            if not name.fullmatch(leftover.name):
                continue
            if leftover.is_symlink() or (handle := open_locked(leftover, wait=False)) is None:
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


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
