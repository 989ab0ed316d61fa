"""Tensor files written in blocks that can be checked one by one.

The files are plain safetensors. Beside each, the manifest keeps the SHA-256 of the whole and of
every MiB, so that a mapped file can be used before it is read and no block is used before it is
checked.
Knows bytes, names, shapes and dtypes; nothing of memories.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

BLOCK = 1 << 20
DIGEST = 32
_ALIGNMENT = 64

DTYPES: dict[str, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class FileRecord:
    """What the manifest says of a file: its name, its size, its hashes.

    Attributes:
        name: file name in the memory's folder.
        size: in bytes.
        sha256: of the whole, hexadecimal.
        blocks: SHA-256 of every MiB, one after the other.
    """

    name: str
    size: int
    sha256: str
    blocks: bytes

    def to_json(self) -> dict[str, Any]:
        """JSON values; the block hashes in base64."""
        blocks = base64.b64encode(self.blocks).decode("ascii")
        return {"name": self.name, "bytes": self.size, "sha256": self.sha256, "blocks": blocks}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "FileRecord":
        """Read what `to_json` wrote; raises ValueError where the hashes do not fit the size."""
        blocks = base64.b64decode(document["blocks"], validate=True)
        size = document["bytes"]
        if len(blocks) != -(-size // BLOCK) * DIGEST:
            raise ValueError(f"{len(blocks) // DIGEST} block hashes for {size} bytes")
        return cls(document["name"], size, document["sha256"], blocks)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> FileRecord:
    """Write a safetensors file block by block and sync it; the same tensors give the same bytes.

    Returns:
        Its record, under the name `path` has now.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    whole = hashlib.sha256()
    blocks = bytearray()
    size = 0
    with open(path, "wb") as file:
        for block in _regroup(_pieces(tensors)):
            whole.update(block)
            blocks += hashlib.sha256(block).digest()
            size += len(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(path.name, size, whole.hexdigest(), bytes(blocks))


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[memoryview | bytes]:
    """Header, then each tensor's bytes; wide types first, so that every tensor is aligned."""
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {}
    offset = 0
    for name in order:
        tensor = tensors[name]
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        yield flat.numpy().data


def _regroup(pieces: Iterable[memoryview | bytes]) -> Iterator[bytes | bytearray | memoryview]:
    """The same bytes in blocks of one MiB, the last one shorter."""
    rest = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        while len(view):
            if not rest and len(view) >= BLOCK:
                yield view[:BLOCK]
                view = view[BLOCK:]
                continue
            take = BLOCK - len(rest)
            rest += view[:take]
            view = view[take:]
            if len(rest) == BLOCK:
                yield rest
                rest = bytearray()
    if rest:
        yield rest
