"""`memory.json`: what a memory on disk says of itself.

The file begins with the digest of all its other bytes, so that any change is noticed. Knows JSON
values only: neither tensors nor folders. docs/format.md describes every field.
"""

import hashlib
import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tasm.errors import DamageError, FormatError
from tasm.memory.disk.blocks import FileRecord

FORMAT = "tasm memory"
FORMAT_VERSION = 1
_HEAD = b'{\n "digest": "'
_BLANK = b"0" * 64
_FILE_NAME = re.compile(r"(core|bank)-[0-9a-f]{16}\.safetensors")
_PICTURE_NAME = re.compile(r"[0-9a-f]{64}\.(jpg|png)")


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

    def to_bytes(self) -> bytes:
        """The file's bytes, digest included."""
        document: dict[str, Any] = {
            "digest": _BLANK.decode(),
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
        }
        document |= {name: getattr(self, name) for name in _PLAIN}
        document["files"] = {
            "core": self.core.to_json(),
            "bank": None if self.bank is None else self.bank.to_json(),
            "pictures": [picture.to_json() for picture in self.pictures],
        }
        text = json.dumps(_finite(document), indent=1, allow_nan=False).encode() + b"\n"
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
        if document.get("format") != FORMAT or not isinstance(version, int):
            raise FormatError(f"{where} is not the manifest of a task memory.")
        if version > FORMAT_VERSION:
            raise FormatError(
                f"{where} has format version {version}; this tasm reads up to version "
                f"{FORMAT_VERSION}. Install a newer tasm to use this memory."
            )
        known = {*_PLAIN, "digest", "format", "format_version", "files"}
        for name in sorted(set(document) - known):
            warnings.warn(
                f"{where}: the field {name!r} is unknown to this tasm and ignored.", stacklevel=2
            )
        values = {name: _typed(document, name, kind, where) for name, kind in _PLAIN.items()}
        _check_counts(values, where)
        files = _typed(document, "files", dict, where)
        try:
            core = _file_record(files["core"])
            bank = None if files.get("bank") is None else _file_record(files["bank"])
            pictures = [_picture_record(picture) for picture in files.get("pictures", [])]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{where}: 'files' is not what tasm writes ({error}).") from error
        return cls(**values, core=core, bank=bank, pictures=pictures)


_OPTIONAL_LIST = (list, type(None))
_PLAIN: dict[str, Any] = {
    "versions": dict,
    "model": dict,
    "geometry": dict,
    "dtype": str,
    "recipe": dict,
    "layout": dict,
    "next_position": int,
    "logical_length": int,
    "core_tokens": list,
    "bank_tokens": _OPTIONAL_LIST,
    "gate": dict,
    "demonstrations": list,
    "sizes": dict,
    "report": dict,
}
if [*_PLAIN, "core", "bank", "pictures"] != [entry.name for entry in fields(Manifest)]:
    raise TypeError("Manifest and _PLAIN name different fields")


def _document(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object, if the digest fits the other bytes."""
    end = len(_HEAD) + len(_BLANK)
    try:
        document = json.loads(data)
    except ValueError as error:
        raise DamageError(
            f"{where} is damaged: not JSON ({error}). Copy the memory again, or build it anew."
        ) from error
    if not isinstance(document, dict) or "digest" not in document:
        raise DamageError(f"{where} is damaged or not a manifest: it has no digest of itself.")
    blanked = data[: len(_HEAD)] + _BLANK + data[end:]
    digest = data[len(_HEAD) : end]
    if data[: len(_HEAD)] != _HEAD or hashlib.sha256(blanked).hexdigest().encode() != digest:
        raise DamageError(
            f"{where} is damaged: its digest does not fit its contents. Copy the memory again, "
            "or build it anew; a manifest cannot be edited by hand."
        )
    return document


_KINDS = {dict: "an object", list: "a list", str: "a string", int: "a whole number"}


def _typed(document: Mapping[str, Any], name: str, kind: Any, where: str) -> Any:
    """A field of the expected type."""
    if name not in document:
        raise FormatError(f"{where}: the field {name!r} is missing.")
    value = document[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = _KINDS[kind[0] if isinstance(kind, tuple) else kind]
        raise FormatError(f"{where}: {name!r} is {value!r:.60}; expected {wanted}.")
    return value


def _check_counts(values: Mapping[str, Any], where: str) -> None:
    """Core and bank tokens: for every layer null, a number, or a number a KV head."""
    for name in ("core_tokens", "bank_tokens"):
        for entry in values[name] or []:
            counts = entry if isinstance(entry, list) else [entry or 0]
            if not all(type(count) is int and count >= 0 for count in counts):
                raise FormatError(
                    f"{where}: {name!r} holds {entry!r:.60}; expected null, a number or a list of "
                    "numbers for every layer."
                )


def _file_record(document: Mapping[str, Any]) -> FileRecord:
    record = FileRecord.from_json(document)
    if not _FILE_NAME.fullmatch(record.name):
        raise ValueError(f"{record.name!r} is not a name that tasm gives a file")
    return record


def _picture_record(document: Mapping[str, Any]) -> PictureRecord:
    record = PictureRecord(document["name"], document["bytes"], document["sha256"])
    if not _PICTURE_NAME.fullmatch(record.name):
        raise ValueError(f"{record.name!r} is not a name that tasm gives a picture")
    return record


def _finite(value: Any) -> Any:
    """The same JSON values with null for every number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {str(name): _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
