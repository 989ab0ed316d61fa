"""Evidence made by hand, for tests that work a method's numbers out in plain Python."""

from typing import Any

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.memory import LayerTokens, TokenTable


class ScaledRotary:
    """Stands in for a rotary embedding: rotating at position p turns the first two dimensions by p
    quarter turns. Exact in floating point, and easy to follow by hand."""

    def rotate(self, layer: int, keys: Tensor, positions: Tensor) -> Tensor:
        return self._turn(keys, positions, 1)

    def unrotate(self, layer: int, keys: Tensor, positions: Tensor) -> Tensor:
        return self._turn(keys.float(), positions, -1)

    def _turn(self, keys: Tensor, positions: Tensor, sign: int) -> Tensor:
        quarter = (sign * positions[0].long()) % 4
        cos = torch.tensor([1.0, 0.0, -1.0, 0.0])[quarter]
        sin = torch.tensor([0.0, 1.0, 0.0, -1.0])[quarter]
        first, second = keys[..., 0], keys[..., 1]
        turned = [cos * first - sin * second, sin * first + cos * second]
        return torch.cat([torch.stack(turned, -1), keys[..., 2:]], -1)


def table(
    roles: list[int],
    demonstration: list[int],
    place: list[list[int]] | None = None,
    positions: list[int] | None = None,
) -> TokenTable:
    """A token table; text unless `place` says otherwise, positions 0, 1, 2 … unless given."""
    return TokenTable.make(
        positions=torch.tensor([positions or list(range(len(roles)))]),
        roles=torch.tensor(roles),
        demonstration=torch.tensor(demonstration),
        place=torch.tensor(place or [[-1] * 4 for _ in roles]),
    )


def evidence(
    plain_keys: Any,
    values: Any,
    tokens: TokenTable,
    *,
    records: dict[Any, Any] | None = None,
    index: list[list[int]] | None = None,
    counts: Any = None,
    valid: list[list[bool]] | None = None,
    layer: int = 0,
    layers: int = 2,
    **more: Any,
) -> Evidence:
    """Evidence over keys given before rotation, (kv_heads, entries, head_dim)."""
    keys = torch.as_tensor(plain_keys, dtype=torch.float32)
    heads, entries = keys.shape[:2]
    where = torch.tensor(index) if index else torch.arange(entries).expand(heads, -1)
    rotary = ScaledRotary()
    return Evidence(
        layer=layer,
        layers=layers,
        held=LayerTokens(
            rotary.rotate(layer, keys, tokens.positions[:, where]),
            torch.as_tensor(values, dtype=torch.float32),
            where,
            originals=None if counts is None else torch.as_tensor(counts).float(),
            valid=None if valid is None else torch.tensor(valid),
        ),
        tokens=tokens,
        records=records or {},
        replayed={},
        rotary=rotary,  # type: ignore[arg-type]
        total=len(tokens),
        **more,
    )
