"""A memory as far as it can be looked at: what is known of it, and the tensors it holds.

Everything that shows or writes a memory takes this; answering from it is `task_memory.py`'s
business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tasm.backbone.checkpoint.identity import Identity
from tasm.backbone.geometry import Geometry
from tasm.backbone.prompt.transcript import Layout
from tasm.memory.asked import KeptQueries
from tasm.memory.contents import Contents
from tasm.memory.core_tensors import Counts
from tasm.memory.entry import DemonstrationEntry
from tasm.memory.layer import LayerTokens
from tasm.memory.packing.vectors import Store
from tasm.memory.retrieval.bank import Bank
from tasm.memory.retrieval.gate import GateReference, GateSettings
from tasm.memory.tokens import TokenTable


@dataclass(frozen=True, eq=False, kw_only=True)
class MemoryFacts:
    """What is known of a memory beside its tensors: names and numbers.

    Attributes:
        next_position: position of the first token after the memory.
        logical_length: how many tokens the demonstrations had.
        full_bytes: keys and values of all tokens, uncompressed, in the core's dtype.
        geometry: layers, heads and positions of the model.
        identity: of the model that it was made for.
        layout: of the conversation.
        recipe: name and all settings of the build, JSON values.
        model_name: where the model was opened from: a name or a folder.
        vision_memory: the folder of the vision memory that the model ran with; "" for none.
        gate: when a query retrieves.
        demonstrations: one entry each.
        report: figures of the build, JSON values.
        place: the folder it was opened from; None for a memory that was never saved.
    """

    next_position: int
    logical_length: int
    full_bytes: int
    geometry: Geometry
    identity: Identity
    layout: Layout
    recipe: dict[str, Any]
    model_name: str
    vision_memory: str = ""
    gate: GateSettings
    demonstrations: tuple[DemonstrationEntry, ...]
    report: dict[str, Any]
    place: Path | None = None


class DescribedMemory(MemoryFacts):
    """Facts and contents of a memory under one roof; nothing of it can be set."""

    def __init__(self, facts: MemoryFacts, contents: Contents) -> None:
        super().__init__(**vars(facts))
        self._contents = contents

    @property
    def contents(self) -> Contents:
        """The tensors, wherever they lie."""
        return self._contents

    @property
    def core(self) -> Sequence[LayerTokens | None]:
        """What every layer always attends to; of a memory on disk, all of it checked. A packed
        layer is unpacked each time it is looked at."""
        return self._contents.core.layers

    @property
    def tokens(self) -> TokenTable:
        """Positions, roles and places of the transcript's tokens."""
        return self._contents.core.tokens

    @property
    def asked(self) -> KeptQueries | None:
        """Queries that the gate is taught by when demonstrations come or go; None where none are
        kept."""
        return self._contents.core.asked

    @property
    def states(self) -> Sequence[Mapping[str, Tensor] | None]:
        """Whole states of linear-attention layers."""
        return self._contents.core.states

    @property
    def bank(self) -> Bank | None:
        """Originals that a query may retrieve."""
        return self._contents.bank

    @property
    def reference(self) -> GateReference | None:
        """What the gate learned while the memory was built."""
        return self._contents.reference

    @property
    def dtype(self) -> str:
        """The dtype of keys and values, such as "float32"; of packed ones once unpacked."""
        return self._contents.dtype

    @property
    def packing(self) -> Store | None:
        """ "int8" or "int4" where keys and values are packed, else None."""
        return self._contents.packing

    @property
    def core_counts(self) -> Counts:
        """Core tokens of every layer and KV head."""
        return self._contents.core_counts

    @property
    def bank_counts(self) -> Counts | None:
        """Bank tokens of every layer and KV head; None without a bank."""
        return self._contents.bank_counts

    @property
    def core_bytes(self) -> int:
        """Bytes of every tensor held for the core: keys, values, indices, biases, the token table,
        the gate's distributions, whole states."""
        return self._contents.core_bytes

    @property
    def bank_bytes(self) -> int:
        """Bytes of every tensor of the bank, once it is in memory."""
        return self._contents.bank_bytes

    @property
    def digest(self) -> str | None:
        """The manifest's digest of itself: equal digests, equal memories. None for a memory that
        was not opened from disk."""
        return self._contents.digest

    def thumbnails(self) -> dict[str, bytes]:
        """JPEG or PNG by the SHA-256 of the picture it shows; only a memory on disk has some."""
        return self._contents.thumbnails()

    def check_all(self) -> None:
        """Check every block of every file, and every value; a memory that was never saved has no
        files.

        Raises:
            DamageError: names the file that is not what was written.
        """
        self._contents.check_all()
