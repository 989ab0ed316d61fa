"""A segment whose keys and values stay packed: attention unpacks a layer each time it reads it.

Knows packed layers; not where they come from.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tasm.backbone.attention.segment import Segment
from tasm.memory.packing.layer import PackedTokens
from tasm.memory.packing.rotation import Rotation


@dataclass(frozen=True, eq=False)
class PackedSource:
    """What a packed segment's keys and values are made of.

    Attributes:
        packed: the layer's tokens.
        at: (rows, all heads' tokens) positions.
        rotation: of the model.
        like: a tensor of the device and dtype that attention runs in.
    """

    packed: PackedTokens
    at: Tensor
    rotation: Rotation
    like: Tensor


class PackedSegment(Segment):
    """What attention reads of a packed layer, unpacked at every look at `keys` or `values`.

    One layer at a time is unpacked, and not kept; the price is the unpacking at every step.
    """

    source: PackedSource

    def __init__(self, source: PackedSource, bias: Tensor | None, index: Tensor) -> None:
        for name, value in (("bias", bias), ("index", index), ("source", source)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_elsewhere", {})

    @property
    def keys(self) -> Tensor:  # type: ignore[override]
        """(1, kv_heads, tokens, head_dim), rotated; made anew each time."""
        here = self.source
        return here.packed.plain_keys(here.at, here.rotation, here.like.dtype)[None]

    @property
    def values(self) -> Tensor:  # type: ignore[override]
        """(1, kv_heads, tokens, head_dim); made anew each time."""
        return self.source.packed.plain_values(self.source.like.dtype)[None]

    @property
    def tokens(self) -> int:
        """Slots a head, unused ones included."""
        return max(self.source.packed.counts)

    def lies_as(self, live: Tensor) -> bool:
        """Whether unpacked keys have the device and dtype of a layer's live ones."""
        like = self.source.like
        return like.dtype == live.dtype and like.device == live.device

    def as_live(self, live: Tensor) -> Segment:
        """Return the segment for the device and dtype of `live`, still packed."""
        if self.lies_as(live):
            return self
        if (found := self._elsewhere.get((live.device, live.dtype))) is None:
            here, device = self.source, live.device
            source = replace(
                here,
                packed=here.packed.to(device),
                at=here.at.to(device),
                rotation=here.rotation.to(device),
                like=torch.empty(0, device=device, dtype=live.dtype),
            )
            bias = None if self.bias is None else self.bias.to(device)
            assert self.index is not None
            found = PackedSegment(source, bias, self.index.to(device))
            self._elsewhere[device, live.dtype] = found
        return found


def packed_segment(
    packed: PackedTokens,
    positions: Tensor,
    rotation: Rotation,
    device: torch.device | str | None,
    dtype: torch.dtype,
) -> Segment:
    """The segment of a packed layer; `positions` (rows, tokens) are the token table's."""
    plain = packed.plain(positions, rotation, torch.float32)
    at, bias = positions[:, packed.places(positions).long()], plain.logit_bias
    source = PackedSource(packed, at, rotation, packed.keys.rows.new_empty(0, dtype=dtype))
    here = PackedSegment(source, None if bias is None else bias[None], plain.index)
    return here.as_live(torch.empty(0, device=device, dtype=dtype))
