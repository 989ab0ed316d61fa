"""The tensors of a memory, wherever they lie.

`Contents` is all that a memory knows of them; `HeldContents` has them in memory, and
`tasm.memory.disk.stored` opens them from files. Knows tensors, not how they were chosen.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from tasm.memory.core_tensors import Counts
from tasm.memory.packing.core import Core
from tasm.memory.packing.vectors import Store
from tasm.memory.retrieval.bank import Bank
from tasm.memory.retrieval.gate import GateReference


class Contents(Protocol):
    """A memory's tensors. Only `core` and what a search of the bank touches need be read; the
    figures are known without reading. What each is says `DescribedMemory`."""

    @property
    def core(self) -> Core: ...

    @property
    def bank(self) -> Bank | None: ...

    @property
    def reference(self) -> GateReference | None: ...

    @property
    def dtype(self) -> str: ...

    @property
    def packing(self) -> Store | None: ...

    @property
    def core_counts(self) -> Counts: ...

    @property
    def bank_counts(self) -> Counts | None: ...

    @property
    def core_bytes(self) -> int: ...

    @property
    def bank_bytes(self) -> int: ...

    @property
    def digest(self) -> str | None: ...

    def check_all(self) -> None:
        """Read and check everything that lies on disk; raises DamageError."""

    def thumbnails(self) -> dict[str, bytes]:
        """JPEG or PNG by the SHA-256 of the picture it shows."""

    def about_files(self) -> dict[str, Any]:
        """JSON values about the files; empty without any."""


@dataclass(frozen=True, eq=False)
class HeldContents:
    """Tensors that lie in memory, on any device; the attributes are those of `Contents`."""

    core: Core
    bank: Bank | None
    reference: GateReference | None
    digest: str | None = None

    @property
    def dtype(self) -> str:
        return self.core.dtype

    @property
    def packing(self) -> Store | None:
        return self.core.store

    @property
    def core_counts(self) -> Counts:
        return self.core.counts

    @property
    def bank_counts(self) -> Counts | None:
        if self.bank is None:
            return None
        return tuple(None if layer is None else layer.counts for layer in self.bank.layers)

    @property
    def core_bytes(self) -> int:
        return self.core.nbytes

    @property
    def bank_bytes(self) -> int:
        return 0 if self.bank is None else self.bank.nbytes

    def check_all(self) -> None: ...

    def thumbnails(self) -> dict[str, bytes]:
        return {}

    def about_files(self) -> dict[str, Any]:
        return {}
