"""A memory's folder: written as one transaction, found and opened without reading it.

`memory.json` is the only name that ever changes. New files are written and synced beside the old
ones, then `memory.json` is replaced, then what it no longer names is deleted; a first build happens
in a hidden sibling that is renamed. How one file is written safely is `tasm.files`' business. Knows
files and manifests; nothing of memories.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from tasm.errors import DamageError, InputError, WorkError
from tasm.files import (
    PARTIAL,
    check_writable,
    naming_work,
    new_folder,
    read_regular,
    remove_leftovers,
    sync_folder,
    write_bytes,
    writer_lock,
)
from tasm.memory.disk.blocks import FileRecord, write_tensors
from tasm.memory.disk.manifest import Manifest, PictureRecord

MANIFEST = "memory.json"
PICTURES = "pictures"
_LARGEST_MANIFEST = 1 << 26

Fill = Callable[[Path], Manifest]
"""Writes a memory's files into a folder and returns the manifest that names them."""


def write_folder(
    folder: Path, fill: Fill, *, overwrite: bool, needed: int = 0, replacing: str | None = None
) -> int:
    """Write a memory of about `needed` bytes to `folder`, all of it or nothing; returns the
    folder's bytes.

    `replacing` is the digest of the memory that may be replaced; None for whatever is there.

    Raises:
        InputError: the folder exists and is not to be overwritten, holds something else, or cannot
            be written to.
        WorkError: the disk is full or fails, another process is writing there, or the memory there
            is another one by now.
    """
    with naming_work(folder):
        exists = os.path.lexists(folder)
        is_change = folder.is_dir() and any(folder.iterdir())
    if is_change or (exists and not folder.is_dir()):
        if not overwrite:
            raise InputError(
                f"{folder} exists. Choose another name, or replace it: overwrite=True."
            )
        check_replaceable(folder, "Choose another name.")
    check_writable(folder, needed)
    with naming_work(folder):
        if not is_change:
            return _create(folder, fill)
        with writer_lock(folder):
            if replacing is not None and read_manifest(folder).digest != replacing:
                raise WorkError(
                    f"{folder} was changed by another process meanwhile; it stays as that one left "
                    "it. Open it again and repeat the change."
                )
            remove_leftovers(folder)
            return _change(folder, fill)


def check_replaceable(folder: Path, instead: str) -> None:
    """Raise `InputError` where what exists at `folder` is neither empty nor a task memory.

    `instead` ends the message: what the caller can do.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder, so it is no task memory and is not overwritten. {instead}"
        )
    if any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder} exists and is not a task memory (it has no {MANIFEST}); it is not "
            f"overwritten. {instead}"
        )


def _create(folder: Path, fill: Fill) -> int:
    with new_folder(folder) as sibling:
        _commit(sibling, fill(sibling))
    return folder_bytes(folder)


def _change(folder: Path, fill: Fill) -> int:
    before = _names(folder)
    try:
        manifest = fill(folder)
        _commit(folder, manifest)
    except BaseException:
        for name in _names(folder) - before:
            (folder / name).unlink(missing_ok=True)
        raise
    sync_folder(folder)  # outside: once the manifest is replaced, the new files are the memory
    for name in _names(folder) - _named(manifest):
        with contextlib.suppress(OSError):  # a reader on Windows; the next writer deletes it
            (folder / name).unlink()
    return folder_bytes(folder)


def _commit(folder: Path, manifest: Manifest) -> None:
    """Put the manifest in place; from here on the new files are the memory."""
    data = manifest.to_bytes()
    if (folder / PICTURES).is_dir():
        sync_folder(folder / PICTURES)
    sync_folder(folder)
    write_bytes(folder / MANIFEST, data)


def _names(folder: Path) -> set[str]:
    """Files that a memory's folder holds of ours, the manifest aside."""
    files = (f"{kind}-*.safetensors" for kind in ("core", "bank", "index"))
    patterns = (*files, f"*{PARTIAL}", f"{PICTURES}/*")
    found = (path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix() for path in found}


def _named(manifest: Manifest) -> set[str]:
    names = {record.name for record in manifest.tensor_files}
    return names | {f"{PICTURES}/{picture.name}" for picture in manifest.pictures}


def write_tensor_file(folder: Path, kind: str, tensors: Mapping[str, Tensor]) -> FileRecord:
    """Write `KIND-HASH.safetensors`, HASH being the first 16 digits of its SHA-256."""
    partial = folder / f"{kind}-{secrets.token_hex(4)}{PARTIAL}"
    record = write_tensors(partial, tensors)
    named = replace(record, name=f"{kind}-{record.sha256[:16]}.safetensors")
    os.replace(partial, folder / named.name)
    return named


def write_pictures(folder: Path, pictures: Mapping[str, bytes]) -> list[PictureRecord]:
    """Write thumbnails, named by the SHA-256 of the pictures they stand for.

    Raises:
        InputError: one is neither JPEG nor PNG.
    """
    records = []
    for sha256 in sorted(pictures):
        data = pictures[sha256]
        kinds = {b"\xff\xd8\xff": "jpg", b"\x89PN": "png"}
        if data[:3] not in kinds:
            raise InputError(f"The thumbnail of picture {sha256} is neither JPEG nor PNG.")
        record = PictureRecord(
            f"{sha256}.{kinds[data[:3]]}", len(data), hashlib.sha256(data).hexdigest()
        )
        (folder / PICTURES).mkdir(exist_ok=True)
        write_bytes(folder / PICTURES / record.name, data)
        records.append(record)
    return records


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a memory.

    Raises:
        InputError: there is no memory.
        DamageError: the manifest is unreadable or not what was written.
        FormatError: it was written by a newer tasm.
    """
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "does not exist"
        raise InputError(f"{folder} {what}; expected the folder of a task memory.")
    path = folder / MANIFEST
    try:
        data = read_regular(path, _LARGEST_MANIFEST)
    except FileNotFoundError:
        if any(folder.glob("core-*.safetensors")):
            raise DamageError(f"{path} is missing: the memory is damaged. Copy it again.") from None
        raise InputError(f"{folder} is not a task memory: it has no {MANIFEST}.") from None
    except OSError as error:
        raise DamageError(f"{path} cannot be read: {error.strerror or error}.") from error
    return Manifest.from_bytes(data, str(path))


def read_picture(folder: Path, record: PictureRecord) -> bytes:
    """Read a thumbnail.

    Raises:
        DamageError: it is missing or not what was written.
    """
    path = folder / PICTURES / record.name
    try:
        data = read_regular(path, record.size)
    except OSError as error:
        raise DamageError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(data) != record.size or hashlib.sha256(data).hexdigest() != record.sha256:
        raise DamageError(f"{path} is damaged: it differs from its SHA-256. Copy it again.")
    return data


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
