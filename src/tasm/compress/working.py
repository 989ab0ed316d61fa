"""The working state of a build, layer by layer: what is kept so far, before it becomes a memory.

One `WorkingLayer` for each layer that competes. It joins what an earlier stage left with the tokens
of a new chunk, and is replaced by what the reducer makes of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.backbone.attention.segment import Segment
from tasm.compress.evidence import Reduced, Selection, packed, take
from tasm.memory.layer import LayerTokens


@dataclass(frozen=True, eq=False)
class WorkingLayer:
    """Entries of one layer; shapes and meanings as in `Evidence`, `bias` as in `Reduced`."""

    keys: Tensor
    values: Tensor
    index: Tensor
    counts: Tensor
    valid: Tensor
    bias: Tensor | None = None

    @classmethod
    def of_segments(
        cls, segments: tuple[Segment, ...], before: "WorkingLayer | None", first: int, stop: int
    ) -> "WorkingLayer":
        """Join what was kept `before` with transcript tokens `first` to `stop - 1`, all in
        `segments`."""
        keys = _joined([segment.keys[0] for segment in segments])
        values = _joined([segment.values[0] for segment in segments])
        heads, device = keys.shape[0], keys.device
        index = torch.arange(first, stop, device=device).expand(heads, -1)
        counts = torch.ones(heads, stop - first, device=device)
        valid = torch.ones(heads, stop - first, dtype=torch.bool, device=device)
        bias = None
        if before is not None:
            index = torch.cat([before.index, index], 1)
            valid = torch.cat([before.valid, valid], 1)
            if before.bias is not None:
                bias = torch.cat([before.bias, torch.zeros_like(counts)], 1)
            counts = torch.cat([before.counts, counts], 1)
        return cls(keys, values, index, counts, valid, bias)

    @classmethod
    def of_reduced(
        cls, reduced: Reduced, selection: Selection, index: Tensor, dtype: torch.dtype
    ) -> "WorkingLayer":
        """What a reducer left; `index` is that of the entries it was given."""
        order = selection.order
        slots = torch.arange(order.shape[1], device=order.device)
        return cls(
            keys=reduced.keys.to(dtype),
            values=reduced.values.to(dtype),
            index=take(index, order),
            counts=reduced.counts,
            valid=slots < selection.counts[:, None],
            bias=reduced.bias,
        )

    def changed(self, change: Callable[[Tensor], Tensor]) -> "WorkingLayer":
        """Return the entries after `change` was applied to every tensor."""
        bias = None if self.bias is None else change(self.bias)
        return WorkingLayer(
            change(self.keys),
            change(self.values),
            change(self.index),
            change(self.counts),
            change(self.valid),
            bias,
        )

    def tail(self, entries: int) -> "WorkingLayer":
        """Return the last `entries` only: those of the newest chunk."""
        return self.changed(lambda tensor: tensor[:, -entries:])

    def layer_tokens(self) -> LayerTokens:
        """What the memory keeps of it."""
        lengths = self.valid.sum(1).tolist()
        ragged = len(set(lengths)) > 1 or lengths[0] < self.valid.shape[1]
        return LayerTokens(
            keys=self.keys,
            values=self.values,
            index=self.index.to(torch.int32),
            bias=self.bias,
            lengths=tuple(lengths) if ragged else None,
        )


def _joined(parts: list[Tensor]) -> Tensor:
    """One tensor of several along the entries; never a tensor of inference mode, which users could
    not run a plain forward pass over."""
    if len(parts) > 1:
        return torch.cat(parts, 1)
    return parts[0].clone() if parts[0].is_inference() else parts[0]


def joined(first: WorkingLayer, second: WorkingLayer) -> WorkingLayer:
    """Return both, entries of `first` before those of `second`, padding last."""

    def bias_of(part: WorkingLayer) -> Tensor:
        return torch.zeros_like(part.counts) if part.bias is None else part.bias

    has_bias = first.bias is not None or second.bias is not None
    both = WorkingLayer(
        torch.cat([first.keys, second.keys], 1),
        torch.cat([first.values, second.values], 1),
        torch.cat([first.index, second.index], 1),
        torch.cat([first.counts, second.counts], 1),
        torch.cat([first.valid, second.valid], 1),
        torch.cat([bias_of(first), bias_of(second)], 1) if has_bias else None,
    )
    if bool(both.valid.all()):
        return both
    order = packed(both.valid)
    return both.changed(lambda tensor: take(tensor, order))
