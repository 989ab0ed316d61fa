"""What every answer needs of a memory: the core of all layers, the token table, the gate's
distributions, whole states. All of it lies in one file.

Knows tensors, not where they came from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from tasm.memory.layer import LayerTokens
from tasm.memory.tokens import TokenTable


@dataclass(frozen=True)
class CoreContents:
    """The tensors of the core.

    Attributes:
        layers: what each layer keeps, or None.
        tokens: the transcript's table.
        distributions: `GateReference.layers`.
        states: of linear-attention layers, by name; None for other layers.
    """

    layers: tuple[LayerTokens | None, ...]
    tokens: TokenTable
    distributions: tuple[Tensor | None, ...]
    states: tuple[Mapping[str, Tensor] | None, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of every tensor."""
        held = sum(layer.nbytes for layer in self.layers if layer is not None)
        gate = sum(layer.nbytes for layer in self.distributions if layer is not None)
        states = sum(part.nbytes for state in self.states if state for part in state.values())
        return held + gate + states + self.tokens.nbytes


Counts = tuple[tuple[int, ...] | None, ...]
"""Tokens of every layer and KV head; None for a layer that holds none."""


def counts_of(layers: Sequence[LayerTokens | None]) -> Counts:
    """How many tokens each layer and KV head keeps."""
    return tuple(None if layer is None else layer.counts for layer in layers)
