"""A task memory: what is kept of a set of demonstrations, ready for a frozen model to read.

Immutable and shared: caches made from it, on any device, share its segments and never write to
them. Knows nothing of how it was chosen; how it lies on disk is `store.py`'s business.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from tasm.backbone.cache import MemoryCache
from tasm.backbone.geometry import Geometry
from tasm.backbone.identity import Identity
from tasm.backbone.transcript import Layout
from tasm.memory.bank import Bank
from tasm.memory.entry import DemonstrationEntry
from tasm.memory.gate import GateKind, GateReference, GateSettings
from tasm.memory.layer import LayerTokens
from tasm.memory.tokens import TokenTable


class TaskMemory:
    """Core memory, latent bank and what is known about them.

    ```python
    memory = tasm.load("birds.tasm")
    output = model.hf.generate(**inputs, past_key_values=memory.cache())
    ```

    Args:
        core: what every layer always attends to; None for a layer that keeps nothing (or is linear).
        tokens: the transcript's table.
        bank: originals that a query may retrieve, or None.
        gate: when it does.
        reference: what the gate learned while building, or None.
        states: whole states of linear-attention layers of hybrid models, or None.
        next_position: position of the first token after the memory.
        logical_length: how many tokens the demonstrations had.
        full_bytes: keys and values of all tokens, uncompressed, in the same dtype.
        geometry, identity, layout: of the model, and of the conversation.
        recipe: JSON-able: name and all settings of the build.
        demonstrations: one entry each.
        report: JSON-able figures of the build (tokens, seconds, peak bytes …).
    """

    def __init__(
        self,
        *,
        core: Sequence[LayerTokens | None],
        tokens: TokenTable,
        next_position: int,
        logical_length: int,
        full_bytes: int,
        geometry: Geometry,
        identity: Identity,
        layout: Layout,
        recipe: Mapping[str, Any],
        bank: Bank | None = None,
        gate: GateSettings | None = None,
        reference: GateReference | None = None,
        states: Any = None,
        demonstrations: Sequence[DemonstrationEntry] = (),
        report: Mapping[str, Any] | None = None,
    ) -> None:
        raise NotImplementedError

    def cache(
        self,
        device: torch.device | str | Sequence[torch.device] | None = None,
        dtype: torch.dtype | None = None,
        gate: GateKind | None = None,
        epsilon: float | Literal["calibrated"] | None = None,
    ) -> MemoryCache:
        """A fresh cache for one `generate` call or session."""
        raise NotImplementedError

    def save(
        self, path: str | Path, *, overwrite: bool = False, pictures: Mapping[str, bytes] | None = None
    ) -> int:
        """Write the memory to a folder; returns its bytes on disk."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: str | Path) -> "TaskMemory":
        """Open a memory: the manifest is checked, the files are mapped, nothing else is read."""
        raise NotImplementedError
