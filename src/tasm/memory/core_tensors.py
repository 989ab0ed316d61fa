"""What every answer needs of a memory, as plain tensors. Knows nothing of banks or files."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from tasm.memory.asked import KeptQueries
from tasm.memory.layer import LayerTokens
from tasm.memory.tokens import TokenTable

Counts = tuple[tuple[int, ...] | None, ...]
"""Tokens of every layer and KV head; None for a layer that holds none."""


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
        return tuple(None if layer is None else layer.counts for layer in self.layers)

    @property
    def dtype(self) -> str:
        """The dtype of the first layer's keys."""
        held = [layer.keys.dtype for layer in self.layers if layer is not None]
        return str(held[0]).removeprefix("torch.") if held else "float32"

    @property
    def store(self) -> None:
        """Nothing is packed."""
