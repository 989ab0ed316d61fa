"""`memory.json`: what a memory on disk says of itself.

The file begins with the digest of all its other bytes, so that any change is noticed. Knows JSON
values only: neither tensors nor folders. docs/format.md describes every field.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tasm.errors import DamageError, FormatError, InputError
from tasm.memory.disk.blocks import FileRecord
from tasm.memory.disk.json_strict import read_json
from tasm.memory.disk.rules import Wrong, shown
from tasm.memory.disk.schema import FORMAT, FORMAT_VERSION, PLAIN_VERSION, check_document

_HEAD = b'{\n "digest": "'
_BLANK = b"0" * 64
_WARNINGS = 20


@dataclass(frozen=True)
class PictureRecord:
    """A thumbnail below `pictures/`: its name, size and SHA-256."""

    name: str
    size: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"name": self.name, "bytes": self.size, "sha256": self.sha256}


@dataclass(frozen=True)
class Manifest:
    """The fields of `memory.json`, as JSON values but for the files' records."""

    versions: dict[str, str]
    model: dict[str, Any]
    geometry: dict[str, Any]
    dtype: str
    recipe: dict[str, Any]
    layout: dict[str, Any]
    next_position: int
    logical_length: int
    core_tokens: list[Any]
    bank_tokens: list[Any] | None
    gate: dict[str, Any]
    demonstrations: list[dict[str, Any]]
    sizes: dict[str, int]
    report: dict[str, Any]
    core: FileRecord
    bank: FileRecord | None = None
    pictures: list[PictureRecord] = field(default_factory=list)
    digest: str = ""
    packing: str | None = None
    index: FileRecord | None = None

    @property
    def tensor_files(self) -> list[FileRecord]:
        """The records of the core's file, and of the bank's and its index's where there are."""
        return [one for one in (self.core, self.bank, self.index) if one is not None]

    def to_bytes(self) -> bytes:
        """The file's bytes, digest included.

        Raises:
            InputError: it says what no reader would accept; such a memory is not written.
        """
        document: dict[str, Any] = {
            "digest": _BLANK.decode(),
            "format": FORMAT,
            "format_version": PLAIN_VERSION if self.packing is None else FORMAT_VERSION,
        }
        document |= {name: getattr(self, name) for name in _PLAIN}
        if self.packing is not None:
            document["packing"] = self.packing
        document["files"] = {
            "core": self.core.to_json(),
            "bank": None if self.bank is None else self.bank.to_json(),
            "pictures": [picture.to_json() for picture in self.pictures],
        }
        if self.index is not None:
            document["files"]["index"] = self.index.to_json()
        document = _finite(document)
        try:
            check_document(document)
        except Wrong as wrong:
            raise InputError(
                f"The memory cannot be written, because nothing could read it: {wrong.sentence}"
            ) from None
        text = json.dumps(document, indent=1, allow_nan=False).encode() + b"\n"
        digest = hashlib.sha256(text).hexdigest().encode()
        return _HEAD + digest + text[len(_HEAD) + len(_BLANK) :]

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "Manifest":
        """Read and check a manifest; `where` names it in errors.

        Raises:
            DamageError: it is not what was written.
            FormatError: it was written by a newer tasm, or by something else.
        """
        document = _document(data, where)
        version = document.get("format_version")
        if document.get("format") != FORMAT or type(version) is not int:
            raise FormatError(
                f"{where} is not the manifest of a task memory: 'format' is "
                f"{shown(document.get('format'))} and 'format_version' {shown(version)}; expected "
                f"{FORMAT!r} and a whole number."
            )
        if version > FORMAT_VERSION:
            raise FormatError(
                f"{where} has format version {shown(version)}; this tasm reads up to version "
                f"{FORMAT_VERSION}. Install a newer tasm to use this memory."
            )
        try:
            unknown = check_document(document)
            files = document["files"]
            core = _file_record(files, "core")
            bank = None if files.get("bank") is None else _file_record(files, "bank")
            index = None if files.get("index") is None else _file_record(files, "index")
        except Wrong as wrong:
            raise FormatError(
                f"{where}: {wrong.sentence} Was it written by a newer tasm, or changed by hand? "
                "Install that tasm, copy the memory again, or build it anew."
            ) from None
        for name in sorted(unknown)[:_WARNINGS]:
            warnings.warn(
                f"{where}: the field {name!r} is unknown to this tasm and ignored.", stacklevel=2
            )
        return cls(
            **{name: document[name] for name in _PLAIN},
            core=core,
            bank=bank,
            pictures=[
                PictureRecord(picture["name"], picture["bytes"], picture["sha256"])
                for picture in files.get("pictures", [])
            ],
            digest=document["digest"],
            packing=document.get("packing"),
            index=index,
        )


_PLAIN = tuple(
    entry.name
    for entry in fields(Manifest)
    if entry.name not in ("core", "bank", "pictures", "digest", "packing", "index")
)
"""Fields that stand in the file as they are, in its order."""


def _document(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object, if the digest fits the other bytes."""
    end = len(_HEAD) + len(_BLANK)
    blanked = data[: len(_HEAD)] + _BLANK + data[end:]
    digest = data[len(_HEAD) : end]
    if data[: len(_HEAD)] != _HEAD or hashlib.sha256(blanked).hexdigest().encode() != digest:
        raise DamageError(
            f"{where} is damaged: its digest does not fit its contents. Copy the memory again, "
            "or build it anew; a manifest cannot be edited by hand."
        )
    try:
        document = read_json(data)
    except ValueError as error:
        raise DamageError(
            f"{where} is damaged: not JSON ({str(error)[:200]}). Copy the memory again, or build "
            "it anew."
        ) from error
    if not isinstance(document, dict):
        raise DamageError(f"{where} is damaged: it is no JSON object. Copy the memory again.")
    return document


def _file_record(files: Mapping[str, Any], kind: str) -> FileRecord:
    try:
        return FileRecord.from_json(files[kind])
    except ValueError as error:
        expected = f"the digest of every MiB in base64 ({error})"
        raise Wrong(f"files.{kind}.blocks", files[kind]["blocks"], expected) from None


def _finite(value: Any) -> Any:
    """The same JSON values with null for every number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {str(name): _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
