"""The tensors of a memory, wherever they lie.

`Contents` is all that a memory knows of them; `HeldContents` has them in memory, and
`tasm.memory.disk.stored` opens them from files. Knows tensors, not how they were chosen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from tasm.memory.asked import KeptQueries
from tasm.memory.layer import LayerTokens
from tasm.memory.retrieval.bank import Bank
from tasm.memory.retrieval.gate import GateReference
from tasm.memory.tokens import TokenTable

Store = Literal["int8", "int4"]
STORES: tuple[Store, ...] = ("int8", "int4")

Counts = tuple[tuple[int, ...] | None, ...]
"""Tokens of every layer and KV head; None for a layer that holds none."""


class Core(Protocol):
    """What every answer needs of a memory, in whatever form it is held: `CoreTensors`, or packed
    ones that are unpacked when looked at."""

    @property
    def layers(self) -> Sequence[LayerTokens | None]:
        """What each layer keeps."""

    @property
    def tokens(self) -> TokenTable:
        """The transcript's table."""

    @property
    def distributions(self) -> Sequence[Tensor | None]:
        """`GateReference.layers`."""

    @property
    def states(self) -> Sequence[Mapping[str, Tensor] | None]:
        """Of linear-attention layers."""

    @property
    def asked(self) -> KeptQueries | None:
        """What the gate is taught by when demonstrations come or go."""

    @property
    def counts(self) -> Counts:
        """Tokens of every layer and KV head."""

    @property
    def dtype(self) -> str:
        """The dtype of keys and values, such as "float32"."""

    @property
    def store(self) -> Store | None:
        """How they are packed, or None."""

    @property
    def nbytes(self) -> int:
        """Bytes of every tensor."""


@dataclass(frozen=True, eq=False)
class CoreTensors:
    """What every answer needs of a memory; all of it lies in one file.

    Attributes:
        layers: what each layer keeps, or None.
        tokens: the transcript's table.
        distributions: `GateReference.layers`.
        states: of linear-attention layers, by name; None for other layers.
        asked: what the gate is taught by when demonstrations come or go; None where nothing is.
    """

    layers: tuple[LayerTokens | None, ...]
    tokens: TokenTable
    distributions: tuple[Tensor | None, ...]
    states: tuple[Mapping[str, Tensor] | None, ...]
    asked: KeptQueries | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of every tensor."""
        held = sum(layer.nbytes for layer in self.layers if layer is not None)
        gate = sum(layer.nbytes for layer in self.distributions if layer is not None)
        states = sum(part.nbytes for state in self.states if state for part in state.values())
        asked = 0 if self.asked is None else self.asked.nbytes
        return held + gate + states + asked + self.tokens.nbytes

    @property
    def counts(self) -> Counts:
        """Tokens of every layer and KV head."""
        return _counts(self.layers)

    @property
    def dtype(self) -> str:
        """The dtype of the first layer's keys."""
        held = [layer.keys.dtype for layer in self.layers if layer is not None]
        return str(held[0]).removeprefix("torch.") if held else "float32"

    @property
    def store(self) -> Store | None:
        """None: nothing is packed."""
        return None


class Contents(Protocol):
    """A memory's tensors. Only `core` and what a search of the bank touches need be read; the
    figures are known without reading."""

    @property
    def core(self) -> Core:
        """What every answer needs, checked where it lies on disk."""

    @property
    def bank(self) -> Bank | None:
        """Originals that a query may retrieve."""

    @property
    def reference(self) -> GateReference | None:
        """What the gate learned while the memory was built."""

    @property
    def dtype(self) -> str:
        """The dtype of keys and values, such as "float32"."""

    @property
    def packing(self) -> Store | None:
        """How keys and values are packed; None where they are not."""

    @property
    def core_counts(self) -> Counts:
        """Core tokens of every layer and KV head."""

    @property
    def bank_counts(self) -> Counts | None:
        """Bank tokens of every layer and KV head; None without a bank."""

    @property
    def core_bytes(self) -> int:
        """Bytes of every tensor held for the core."""

    @property
    def bank_bytes(self) -> int:
        """Bytes of every tensor of the bank."""

    @property
    def digest(self) -> str | None:
        """What tells one memory on disk from another; None for one in memory."""

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
        """The dtype of keys and values."""
        return self.core.dtype

    @property
    def packing(self) -> Store | None:
        """How they are packed."""
        return self.core.store

    @property
    def core_counts(self) -> Counts:
        """Core tokens of every layer and KV head."""
        return self.core.counts

    @property
    def bank_counts(self) -> Counts | None:
        """Bank tokens of every layer and KV head."""
        return None if self.bank is None else _counts(self.bank.layers)

    @property
    def core_bytes(self) -> int:
        """Bytes held."""
        return self.core.nbytes

    @property
    def bank_bytes(self) -> int:
        """Bytes held."""
        return 0 if self.bank is None else self.bank.nbytes

    def check_all(self) -> None:
        """Nothing: there are no files."""

    def thumbnails(self) -> dict[str, bytes]:
        """None: only a folder has some."""
        return {}

    def about_files(self) -> dict[str, Any]:
        """None: there are no files."""
        return {}


class _Counted(Protocol):
    @property
    def counts(self) -> tuple[int, ...]: ...


def _counts(layers: Sequence[_Counted | None]) -> Counts:
    return tuple(None if layer is None else layer.counts for layer in layers)
