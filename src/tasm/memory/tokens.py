"""What is known of every demonstration token, once for the whole memory.

Layers keep different tokens, but a token's position, role and place are the same in all of them:
`LayerTokens.index` points into this table. Knows nothing of keys or values.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

TABLE = ("positions", "roles", "demonstration", "place")
"""The table's tensors, by the names of its fields."""


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Positions, roles and places of the transcript's tokens; one per memory.

    Attributes:
        positions: (rows, tokens) int32, three rows with M-RoPE and one otherwise.
        roles: (tokens,) uint8, the values of `tasm.backbone.prompt.transcript.Role`.
        demonstration: (tokens,) int32, which demonstration; -1 for system prompt and BOS.
        place: (tokens, 4) int16, an image token's (image, t, h, w); -1 for text.
    """

    positions: Tensor
    roles: Tensor
    demonstration: Tensor
    place: Tensor

    def __post_init__(self) -> None:
        tokens = self.roles.shape[0]
        expected = {
            "positions": (self.positions.shape[0], tokens),
            "roles": (tokens,),
            "demonstration": (tokens,),
            "place": (tokens, 4),
        }
        for name, shape in expected.items():
            seen = tuple(getattr(self, name).shape)
            if seen != shape:
                raise ValueError(f"token table: {name} has shape {seen}, expected {shape}")

    @classmethod
    def make(
        cls, positions: Tensor, roles: Tensor, demonstration: Tensor, place: Tensor
    ) -> "TokenTable":
        """A table in the narrow integer types that a memory keeps, on the CPU."""
        return cls(
            positions=positions.to("cpu", torch.int32),
            roles=roles.to("cpu", torch.uint8),
            demonstration=demonstration.to("cpu", torch.int32),
            place=place.to("cpu", torch.int16),
        )

    @classmethod
    def empty(cls) -> "TokenTable":
        """A table without tokens."""
        none = torch.empty(0)
        return cls.make(none[None], none, none, none.view(0, 4))

    def __len__(self) -> int:
        return int(self.roles.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(getattr(self, name).nbytes for name in TABLE)

    @property
    def demonstration_tokens(self) -> int:
        """How many tokens belong to demonstrations (not to system prompt or BOS)."""
        return int((self.demonstration >= 0).sum())

    def to(self, device: torch.device | str) -> "TokenTable":
        """The same table on `device`."""
        return TokenTable(*(getattr(self, name).to(device) for name in TABLE))
