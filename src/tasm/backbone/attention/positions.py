"""Where live tokens stand: their positions and logical indices, kept by the cache's own counters.

The model computes local positions of a query by itself, because the cache reports live tokens only;
`LiveRows.place` moves them behind the memory and counts on from there. `rope_deltas`,
`cache_position` and position arguments of later calls are never trusted.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.segment import Extra
from tasm.errors import InputError


class LiveRows:
    """What is known of every row's live tokens; a cache and its layers share one object."""

    def __init__(self, extra: Extra | None = None) -> None:
        self.extra = extra
        self.recorder: Callable[[Any], None] | None = None
        self.armed = False
        """Whether the running decoder call went through the position hook."""
        self.forget()

    def forget(self) -> None:
        """Drop everything about the live tokens."""
        self.first: Tensor | None = None
        """Positions (position_rows, batch, n) of the first call's tokens."""
        self.next_position: Tensor | None = None
        self.next_index: Tensor | None = None
        self.index: Tensor | None = None
        """Logical index (batch, n) of this call's tokens."""
        self.last: Tensor | None = None
        """Place of each row's last real token in this call; None means the very last."""

    def place(
        self,
        batch: int,
        tokens: int,
        device: torch.device,
        position_ids: Tensor | None,
        attention_mask: Any,
        start: tuple[int, int, int],
    ) -> Tensor:
        """Count one call's tokens and return their positions, in the shape the decoder expects.

        `start` is the memory's next position, its logical length, and the rows of a position.
        Raises InputError for a mask or positions that cannot belong to live tokens alone.
        """
        begins = self.next_position is None
        real = None
        if begins or tokens > 1:
            real = real_tokens(attention_mask, batch, tokens, begins)
        if real is None:
            order = torch.arange(tokens, device=device)[None].expand(batch, -1)
            count: int | Tensor = tokens
        else:
            order = (real.cumsum(1) - 1).clamp_min(0)
            count = real.sum(1)
        self.last = None if real is None else tokens - 1 - real.flip(1).int().argmax(1)
        if self.next_position is None or self.next_index is None:
            local = _local(position_ids, order, real)
            positions = local + start[0]
            body = positions[1:] if positions.ndim == 3 and positions.shape[0] == 4 else positions
            self.first = (body if body.ndim == 3 else body[None]).expand(start[2], -1, -1)
            known = self.first if real is None else self.first.masked_fill(~real, start[0] - 1)
            self.next_position = known.amax((0, 2)) + 1  # of a row of padding alone: the start
            self.index = order + start[1]
            self.next_index = self.index[:, 0] + count
            return positions
        if self.next_position.shape[0] != batch:
            raise InputError(
                f"The cache holds {self.next_position.shape[0]} rows of live tokens but was given "
                f"{batch}. Call batch_repeat_interleave() or batch_select_indices() on the cache, "
                "or reset() it."
            )
        _refuse_images(position_ids, tokens)
        positions = self.next_position[:, None] + order
        self.index = self.next_index[:, None] + order
        self.next_position = self.next_position + count
        self.next_index = self.next_index + count
        return positions

    def positions(self, live: int) -> Tensor:
        """Return the positions (position_rows, batch, live) of all live tokens."""
        if self.first is None or self.next_position is None:
            raise InputError(
                "No positions were recorded for the live tokens: run the model after attach(model)."
            )
        known = self.first.shape[2]
        if live <= known:
            return self.first[:, :, :live]
        steps = torch.arange(live - known, device=self.first.device) - (live - known)
        later = (self.next_position[:, None] + steps)[None].expand(self.first.shape[0], -1, -1)
        return torch.cat([self.first, later], 2)

    def crop(self, removed: int, live: int) -> None:
        """Forget the last `removed` tokens of every row; `live` remain."""
        if live == 0 or self.first is None or self.next_position is None or self.next_index is None:
            self.forget()
            return
        self.next_index = self.next_index - removed
        if live < self.first.shape[2]:
            self.first = self.first[:, :, :live]
            self.next_position = self.first.amax((0, 2)) + 1
        else:
            self.next_position = self.next_position - removed

    def map(self, change: Callable[[Tensor], Tensor]) -> None:
        """Reorder, repeat or select rows."""
        if self.first is not None:
            self.first = change(self.first.transpose(0, 1)).transpose(0, 1)
        for name in ("next_position", "next_index", "index", "last"):
            if (tensor := getattr(self, name)) is not None:
                setattr(self, name, change(tensor))


def real_tokens(attention_mask: Any, batch: int, tokens: int, is_first_call: bool) -> Tensor | None:
    """Return which of a call's tokens are no padding, bool (batch, tokens), or None where all are.

    Reads a 2D mask, a prepared 4D mask (a real token sees itself) or a dictionary of those.
    """
    mask = attention_mask
    if isinstance(mask, dict):
        mask = next((m for m in mask.values() if isinstance(m, Tensor) and m.ndim == 4), None)
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 4):
        return None
    if mask.ndim == 2:
        if mask.shape[1] < tokens:
            raise InputError(
                f"attention_mask covers {mask.shape[1]} tokens but the call has {tokens}. Give the "
                "mask of the live tokens; the memory needs none."
            )
        real = (mask[:, :tokens] if is_first_call else mask[:, -tokens:]).bool()
    elif is_first_call:
        seen = mask[:, 0].diagonal(dim1=-2, dim2=-1)[:, :tokens]
        real = seen if seen.dtype == torch.bool else seen > torch.finfo(seen.dtype).min / 2
    else:
        return None
    return real.expand(batch, -1)


def _local(position_ids: Tensor | None, order: Tensor, real: Tensor | None) -> Tensor:
    """Positions that start at 0 with each row's first real token; padding stands there too."""
    if position_ids is None:
        return order
    batch, tokens = order.shape
    local = position_ids.expand(*position_ids.shape[:-2], batch, tokens)
    if real is None:
        return local - local[..., :1]
    begin = real.int().argmax(1)[:, None].expand(*local.shape[:-1], 1)
    local = local - local.gather(-1, begin)
    return local.masked_fill(~real, 0)


def _refuse_images(position_ids: Tensor | None, tokens: int) -> None:
    if tokens == 1 or position_ids is None or position_ids.ndim != 3:
        return
    rows = position_ids[-3:]
    if bool((rows != rows[:1]).any()):
        raise InputError(
            "An image came in a later call of the same query, where its multi-dimensional "
            "positions are not known. Read the query in one call, or commit() the cache before it."
        )
