"""The tensors of a memory, wherever they lie: in memory here, in files in
`tasm.memory.disk.stored`. Knows tensors, not how they were chosen."""

from typing import Any

from tasm.memory.core_tensors import Counts
from tasm.memory.packing.core import Core
from tasm.memory.packing.vectors import Store
from tasm.memory.retrieval.bank import Bank
from tasm.memory.retrieval.gate import GateReference


class Contents:
    """A memory's tensors, and what is known of them; what each is says `DescribedMemory`.

    Here they lie in memory, on any device. Where they lie on disk, only `core` and what a search of
    the bank touches need be read; the figures are known without reading.
    """

    digest: str | None = None

    def __init__(self, core: Core, bank: Bank | None, reference: GateReference | None) -> None:
        self._held = core, bank, reference

    @property
    def core(self) -> Core:
        return self._held[0]

    @property
    def bank(self) -> Bank | None:
        return self._held[1]

    @property
    def reference(self) -> GateReference | None:
        return self._held[2]

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

    def check_all(self) -> None:
        """Read and check everything that lies on disk; raises DamageError."""

    def thumbnails(self) -> dict[str, bytes]:
        """JPEG or PNG by the SHA-256 of the picture it shows."""
        return {}

    def about_files(self) -> dict[str, Any]:
        """JSON values about the files; empty without any."""
        return {}
