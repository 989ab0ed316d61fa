"""A model's rotary embedding as few numbers, so that keys can be stored as they were before it.

Read off the model's own rotation once; afterwards keys are turned back and forth without the model.
Whatever it says, turning back and forth is exact, so a coarse reading could cost nothing but a
little of what packing saves. Knows keys and positions; nothing of layers.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tasm.backbone.attention.rotary import Rotary
from tasm.memory.packing.integers import deflated


@dataclass(frozen=True, eq=False)
class Rotation:
    """Pairs of channels, each turned by its frequency times a position.

    ```python
    rotation = Rotation.read(backbone.rotary, layer=0, head_dim=64, rows=1)
    plain = rotation.turned(keys, positions, back=True)       # (tokens, 64), (1, tokens)
    ```

    Attributes:
        pairs: (3, pairs) int32: the first and second channel of each pair, and which row of the
            positions turns it.
        frequencies: (pairs,) float32, radians a position.
    """

    pairs: Tensor
    frequencies: Tensor

    @classmethod
    def read(cls, rotary: Rotary, layer: int, head_dim: int, rows: int) -> "Rotation":
        """Read a model's rotation off unit vectors at position 1 of each row of positions."""
        unit = torch.eye(head_dim)[None]
        found: dict[tuple[int, int], tuple[int, float]] = {}
        for row in range(rows):
            positions = torch.zeros(rows, head_dim, dtype=torch.int32)
            positions[row] = 1
            turned = rotary.rotate(layer, unit, positions)[0].double()
            beside = turned - torch.diag(turned.diagonal())
            for first in range(head_dim):
                second = int(beside[first].abs().argmax())
                sine, cosine = float(beside[first, second]), float(turned[first, first])
                if sine != 0 and first < second:
                    found[first, second] = row, math.atan2(sine, cosine)
        taken: set[int] = set()
        pairs: list[tuple[int, int, int]] = []
        frequencies: list[float] = []
        for (first, second), (row, angle) in sorted(found.items()):
            if not {first, second} & taken:
                taken |= {first, second}
                pairs.append((first, second, row))
                frequencies.append(angle)
        listed = torch.tensor(pairs, dtype=torch.int32).reshape(-1, 3).T.contiguous()
        return cls(listed, torch.tensor(frequencies, dtype=torch.float32))

    @property
    def nbytes(self) -> int:
        """Bytes as they are stored."""
        return deflated(self.pairs).nbytes + self.frequencies.nbytes

    def to(self, device: torch.device) -> "Rotation":
        """The same rotation on another device."""
        return replace(self, pairs=self.pairs.to(device), frequencies=self.frequencies.to(device))

    def turned(self, keys: Tensor, positions: Tensor, *, back: bool) -> Tensor:
        """Return keys (tokens, head_dim) float32 turned to positions (rows, tokens), or back."""
        first, second, row = (part.long() for part in self.pairs.to(keys.device))
        places = positions.to(keys.device, torch.float64)[row]
        angles = (places * self.frequencies.to(keys.device, torch.float64)[:, None]).T
        cos, sin = angles.cos().float(), angles.sin().float()
        sin = -sin if back else sin
        one, other = keys[:, first], keys[:, second]
        made = keys.clone()
        made[:, first] = one * cos - other * sin
        made[:, second] = other * cos + one * sin
        return made

    def check(self, head_dim: int, rows: int) -> None:
        """Raise ValueError where this can be no rotation of so many channels and rows."""
        channels = self.pairs[:2].flatten()
        if len(set(channels.tolist())) != len(channels):
            raise ValueError("its rotation turns a channel twice")
        limits = ((self.pairs[:2], head_dim), (self.pairs[2], rows))
        if any(n.numel() and not 0 <= int(n.min()) <= int(n.max()) < end for n, end in limits):
            raise ValueError(f"its rotation is not one of {head_dim} channels and {rows} rows")
        if not bool(self.frequencies.isfinite().all()):
            raise ValueError("its rotation has a frequency that is not a number")
