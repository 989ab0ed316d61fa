"""Tensor files read through a memory map, every block checked when first touched.

safetensors' own `safe_open` maps a file too (tried with 0.8), but tells not where a tensor's bytes
lie, so the header is read here anyway, and hands tensors out of a mapping of its own: where the
file is replaced in between, what was checked in this one would not be what is used. Knows bytes,
names, shapes and dtypes; nothing of memories.
"""

import hashlib
import mmap
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from tasm.errors import DamageError
from tasm.files import regular_size
from tasm.memory.disk import blocks
from tasm.memory.disk.blocks import DIGEST, DTYPES, FileRecord
from tasm.memory.disk.headers import LARGEST_HEADER, TensorEntry, parse_header


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
        self._checked = bytearray(len(record.blocks) // DIGEST)
        self._lock = threading.Lock()
        try:
            regular_size(path)
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
        first, last = start // blocks.BLOCK, -(-stop // blocks.BLOCK)
        todo = [block for block in range(first, last) if not self._checked[block]]
        self._check_blocks(todo)

    def check_rows(self, base: int, rows: Tensor, row_bytes: int) -> None:
        """Check the blocks that hold rows number `rows` of a table that begins at `base`."""
        # A row begins in one block, and ends in it or in a later one.
        steps = torch.tensor(
            [*range(0, max(row_bytes - 1, 0), blocks.BLOCK), max(row_bytes - 1, 0)]
        )
        touched = (torch.unique(rows) * row_bytes + base)[:, None] + steps
        numbers = torch.unique(touched.div(blocks.BLOCK, rounding_mode="floor")).tolist()
        self._check_blocks([block for block in numbers if not self._checked[block]])

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

    def read_sparsely(self) -> None:
        """From now on few places are touched: the system need not read on around each."""
        self._advise("MADV_RANDOM", 0, self.record.size)

    def read_on(self, start: int, stop: int) -> None:
        """Bytes `start` to `stop - 1` will be touched one after the other."""
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        self._advise("MADV_WILLNEED", first, stop - first)

    def _advise(self, what: str, start: int, length: int) -> None:
        if hasattr(mmap, what) and length > 0:  # not on Windows
            self._map.madvise(getattr(mmap, what), start, length)

    def _is_sound(self, block: int) -> bool:
        start = block * blocks.BLOCK
        self.read_on(start, min(start + blocks.BLOCK, self.record.size))
        with memoryview(self._map) as view:
            digest = hashlib.sha256(
                view[block * blocks.BLOCK : (block + 1) * blocks.BLOCK]
            ).digest()
        return digest == self.record.blocks[block * DIGEST : (block + 1) * DIGEST]

    def damage(self, what: str) -> DamageError:
        """The error that says what is wrong with this file."""
        return DamageError(
            f"{self.path} is damaged: {what}. Copy it again from where it was sound, or build the "
            "memory anew."
        )

    @cached_property
    def _header(self) -> tuple[int, dict[str, TensorEntry]]:
        """Where the data begins, and the tensors' entries; the blocks that say so are checked."""
        self.check(0, min(8, self.record.size))
        length = int.from_bytes(self._map[:8], "little")
        if not 0 < length <= min(LARGEST_HEADER, self.record.size - 8):
            raise self.damage(f"a header of {length} bytes cannot be")
        self.check(0, 8 + length)
        try:
            header = parse_header(self._map[8 : 8 + length], self.record.size - 8 - length)
        except ValueError as error:
            raise self.damage(f"its header is not a safetensors header ({error})") from error
        return 8 + length, header

    @property
    def header(self) -> dict[str, TensorEntry]:
        """The tensors' entries."""
        return self._header[1]

    def view(self, name: str) -> "MappedTensor":
        """A tensor of the file, mapped and not yet checked.

        Raises:
            DamageError: there is none of that name.
        """
        base, header = self._header
        if name not in header:
            raise self.damage(f"it holds no tensor {name!r}")
        entry = header[name]
        start, dtype = base + entry.start, DTYPES[entry.dtype]
        if 0 in entry.shape:
            return MappedTensor(self, start, torch.empty(entry.shape, dtype=dtype))
        count = (entry.stop - entry.start) // dtype.itemsize
        flat = torch.frombuffer(self._map, dtype=dtype, count=count, offset=start)
        return MappedTensor(self, start, flat.view(entry.shape))

    def read(self, name: str) -> Tensor:
        """A tensor of the file, all of it checked; it lies in the mapping, so nothing is copied."""
        return self.view(name).whole()


@dataclass(frozen=True, eq=False)
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
            end = self.start + stop * self.row_bytes
            self.file.check(begin, end)
            self.file.read_on(begin, end)
        return self.unchecked[first:stop]

    def rows(self, rows: Tensor) -> Tensor:
        """Entries `rows` (any shape) of the first dimension, checked and gathered."""
        self.file.check_rows(self.start, rows, self.row_bytes)
        return self.unchecked[rows]
