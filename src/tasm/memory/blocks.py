"""Tensor files written and read in checked blocks.

The files are plain safetensors. Beside each, the manifest keeps the SHA-256 of the whole and of
every MiB, so that a mapped file can be used before it is read and no block is used before it is
checked.
Knows bytes, names, shapes and dtypes; nothing of memories.
"""

import base64
import hashlib
import json
import mmap
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasm.errors import DamageError

BLOCK = 1 << 20
_DIGEST = 32
_ALIGNMENT = 64
_LARGEST_HEADER = 100_000_000  # the safetensors format's own limit

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
        if len(blocks) != -(-size // BLOCK) * _DIGEST:
            raise ValueError(f"{len(blocks) // _DIGEST} block hashes for {size} bytes")
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


class MappedFile:
    """A tensor file mapped into memory; every block is checked when first touched.

    Opening it compares the size and reads nothing.

    Args:
        path: where the file lies.
        record: what the manifest says of it.

    Raises:
        DamageError: the file is missing or has another size; later, from any method: a block that
            was touched is not what was written.
    """

    def __init__(self, path: Path, record: FileRecord) -> None:
        self.path = path
        self.record = record
        self._checked = bytearray(len(record.blocks) // _DIGEST)
        self._lock = threading.Lock()
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size == record.size and size > 0:
                    # A private mapping: torch wants writable memory, and nobody writes to it.
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError:
            raise DamageError(
                f"{path} is missing: the memory's manifest names it. Copy the whole folder again, "
                "or build the memory anew."
            ) from None
        except OSError as error:
            raise DamageError(f"{path} cannot be read: {error.strerror or error}.") from error
        if size != record.size or size == 0:
            raise DamageError(
                f"{path} has {size} bytes, the manifest says {record.size}: it was truncated or "
                "replaced. Copy it again, or build the memory anew."
            )

    def check(self, start: int, stop: int) -> None:
        """Check the blocks that hold bytes `start` to `stop - 1`, those not yet checked."""
        first, last = start // BLOCK, -(-stop // BLOCK)
        todo = [block for block in range(first, last) if not self._checked[block]]
        self._check_blocks(todo)

    def check_rows(self, base: int, rows: Tensor, row_bytes: int) -> None:
        """Check the blocks that hold rows number `rows` of a table that begins at `base`."""
        starts = torch.unique(rows) * row_bytes + base
        first = torch.div(starts, BLOCK, rounding_mode="floor")
        last = torch.div(starts + (row_bytes - 1), BLOCK, rounding_mode="floor")
        touched = torch.unique(torch.cat([first, last])).tolist()
        if row_bytes > BLOCK:
            for start in starts.tolist():
                self.check(start, start + row_bytes)
        self._check_blocks([block for block in touched if not self._checked[block]])

    def check_all(self) -> None:
        """Check every block and the whole, whatever was checked before."""
        self._check_blocks(list(range(len(self._checked))))
        whole = hashlib.sha256(memoryview(self._map)).hexdigest()
        if whole != self.record.sha256:
            raise self.damage("the SHA-256 of the whole file differs")

    def _check_blocks(self, blocks: list[int]) -> None:
        if len(blocks) > 8:
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
                sound = list(pool.map(self._is_sound, blocks))
        else:
            sound = [self._is_sound(block) for block in blocks]
        with self._lock:
            for block, is_sound in zip(blocks, sound, strict=True):
                if not is_sound:
                    raise self.damage(f"MiB {block} differs from its SHA-256")
                self._checked[block] = 1

    def _is_sound(self, block: int) -> bool:
        with memoryview(self._map) as view:
            digest = hashlib.sha256(view[block * BLOCK : (block + 1) * BLOCK]).digest()
        return digest == self.record.blocks[block * _DIGEST : (block + 1) * _DIGEST]

    def damage(self, what: str) -> DamageError:
        """The error that says what is wrong with this file."""
        return DamageError(
            f"{self.path} is damaged: {what}. Copy it again from where it was sound, or build the "
            "memory anew."
        )

    @cached_property
    def _header(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """Where the data begins, and the tensors' entries; the blocks that say so are checked."""
        self.check(0, min(8, self.record.size))
        length = int.from_bytes(self._map[:8], "little")
        if not 0 < length <= min(_LARGEST_HEADER, self.record.size - 8):
            raise self.damage(f"a header of {length} bytes cannot be")
        self.check(0, 8 + length)
        try:
            header = json.loads(self._map[8 : 8 + length])
            header.pop("__metadata__", None)
            for entry in header.values():
                start, stop = entry["data_offsets"]
                elements = 1
                for extent in entry["shape"]:
                    elements *= extent
                wanted = elements * DTYPES[entry["dtype"]].itemsize
                if stop - start != wanted or start < 0 or 8 + length + stop > self.record.size:
                    raise ValueError(f"offsets {start} to {stop} for {wanted} bytes")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.damage(f"its header is not a safetensors header ({error})") from error
        return 8 + length, header

    @property
    def names(self) -> list[str]:
        """Names of the tensors."""
        return list(self._header[1])

    def view(self, name: str) -> "MappedTensor":
        """A tensor of the file, mapped and not yet checked.

        Raises:
            DamageError: there is none of that name.
        """
        base, header = self._header
        if name not in header:
            raise self.damage(f"it holds no tensor {name!r}")
        entry = header[name]
        start = base + entry["data_offsets"][0]
        shape = tuple(entry["shape"])
        dtype = DTYPES[entry["dtype"]]
        if 0 in shape:
            return MappedTensor(self, start, torch.empty(shape, dtype=dtype))
        count = (entry["data_offsets"][1] - entry["data_offsets"][0]) // dtype.itemsize
        flat = torch.frombuffer(self._map, dtype=dtype, count=count, offset=start)
        return MappedTensor(self, start, flat.view(shape))

    def read(self, name: str) -> Tensor:
        """A tensor of the file, all of it checked; it lies in the mapping, so nothing is copied."""
        return self.view(name).whole()


@dataclass(frozen=True)
class MappedTensor:
    """A tensor in a mapped file: parts of it are checked as they are asked for.

    Attributes:
        file: where it lies.
        start: its first byte in the file.
        unchecked: the tensor itself; use it only after checking.
    """

    file: MappedFile
    start: int
    unchecked: Tensor

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry of the first dimension."""
        rows = self.unchecked.shape[0]
        return self.unchecked.nbytes // rows if rows else 0

    def whole(self) -> Tensor:
        """The tensor, checked."""
        self.file.check(self.start, self.start + self.unchecked.nbytes)
        return self.unchecked

    def between(self, first: int, stop: int) -> Tensor:
        """Entries `first` to `stop - 1` of the first dimension, checked."""
        if stop > first:
            begin = self.start + first * self.row_bytes
            self.file.check(begin, self.start + stop * self.row_bytes)
        return self.unchecked[first:stop]

    def rows(self, rows: Tensor) -> Tensor:
        """Entries `rows` (any shape) of the first dimension, checked and gathered."""
        self.file.check_rows(self.start, rows, self.row_bytes)
        return self.unchecked[rows]
