"""Where live tokens stand: their positions and logical indices, kept by the cache's own counters.

The model computes local positions of a query by itself, because the cache reports live tokens only;
`LiveRows.place` moves them behind the memory and counts on from there. `rope_deltas`,
`cache_position` and position arguments of later calls are never trusted.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.attention_call import AttentionCall
from tasm.backbone.attention.masks import Mask
from tasm.backbone.attention.segment import Extra
from tasm.backbone.attention.starts import Starts, column
from tasm.errors import InputError


class LiveRows:
    """What is known of every row's live tokens; a cache and its layers share one object."""

    def __init__(self, extra: Extra | None = None) -> None:
        self.extra = extra
        self.recorder: Callable[[AttentionCall], None] | None = None
        self.armed = False
        """Whether the running decoder call went through the position hook."""
        self.forget()

    def forget(self) -> None:
        """Drop everything about the live tokens."""
        self.ids: list[Tensor] | None = []
        """Ids (batch, n) of the live tokens, a tensor a call; None where they were not seen."""
        self.coming: Tensor | None = None
        """Ids of the call that is about to begin."""
        self.places: Tensor | None = None
        """Positions (3, batch, n) of the call about to begin, counted from its beginning."""
        self.padding: Tensor | None = None
        """1 for real, 0 for padding, long (batch, live tokens); None where nothing is padding."""
        self.mask: Mask = None
        """The mask of the call that is about to begin."""
        self.ends_in_padding = False
        """Whether a row's real tokens were followed by padding."""
        self.has_holes = False
        """Whether real tokens came after that padding."""
        self.front: int | None = None
        """Columns that the first call's mask had in front of the live tokens."""
        self.first: Tensor | None = None
        """Positions (position_rows, batch, n) of the first call's tokens."""
        self.next_position: Tensor | None = None
        self.next_index: Tensor | None = None
        self.index: Tensor | None = None
        """Logical index (batch, n) of this call's tokens."""
        self.last: Tensor | None = None
        """Place of each row's last real token in this call; None means the very last."""

    def are_placed(self, kwargs: dict[str, Any]) -> bool:
        """Whether a call's positions are known: from a module further out, or the caller's own,
        which are trusted in a first call alone."""
        given = kwargs.get("position_ids")
        if given is None or given.ndim < 3:
            return False
        return given is self.places or self.next_position is None

    def place(
        self,
        batch: int,
        tokens: int,
        device: torch.device,
        position_ids: Tensor | None,
        real: Tensor | None,
        starts: Starts,
        position_rows: int,
        live: int = 0,
    ) -> Tensor:
        """Count one call's tokens and return their positions, in the shape the decoder expects.

        `real` (batch, tokens) says which are no padding, None that all are; `starts` is where the
        rows begin, `position_rows` how many numbers a position has; `live` tokens were read before.
        Raises InputError for positions that cannot belong to live tokens alone.
        """
        if real is None:
            order = torch.arange(tokens, device=device)[None].expand(batch, -1)
            count: int | Tensor = tokens
        else:
            real = real.to(device)
            order = (real.cumsum(1) - 1).clamp_min(0)
            count = real.sum(1)
        self.last = None if real is None else tokens - 1 - real.flip(1).int().argmax(1)
        if self.next_position is None or self.next_index is None:
            starts.check(batch)
            start = column(starts.positions, device)
            positions = _local(position_ids, order, real) + start
            body = positions[1:] if positions.ndim == 3 and positions.shape[0] == 4 else positions
            self.first = (body if body.ndim == 3 else body[None]).expand(position_rows, -1, -1)
            known = self.first if real is None else torch.where(real, self.first, start - 1)
            self.next_position = known.amax((0, 2)) + 1  # of a row of padding alone: the start
            self.index = order + column(starts.indices, device)
            self.next_index = self.index[:, 0] + count
            return positions
        if self.next_position.shape[0] != batch:
            raise InputError(
                f"The cache holds {self.next_position.shape[0]} rows of live tokens but was given "
                f"{batch}. Call batch_repeat_interleave() or batch_select_indices() on the cache, "
                "or reset() it."
            )
        self.index = self.next_index[:, None] + order
        if position_ids is not None and position_ids is self.places:
            positions = self.next_position[:, None] + _local(position_ids, order, real)
            known = positions if real is None else positions.masked_fill(~real, -1)
            ends = known.amax((0, 2)) + 1
            self.first = (
                torch.cat([self.positions(live), positions], 2) if tokens > 1 else self.first
            )
            self.next_position = torch.maximum(self.next_position, ends)
        else:
            if are_of_pictures(position_ids, tokens):
                raise InputError(
                    "An image came in a later call of the same query, where its multi-dimensional "
                    "positions are not known. Read the query in one call, or commit() the cache "
                    "before it."
                )
            positions = self.next_position[:, None] + order
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

    def take_ids(self, batch: int, tokens: int) -> None:
        """Keep the ids of the call that begins."""
        coming, self.coming = self.coming, None
        if coming is None or coming.shape != (batch, tokens):
            self.ids = None
        elif self.ids is not None:
            self.ids.append(coming)

    def live_ids(self, live: int) -> Tensor | None:
        """The ids (batch, live) of all live tokens, or None where they were not seen."""
        if not self.ids:
            return None
        self.ids = [torch.cat(self.ids, 1)]
        return self.ids[0] if self.ids[0].shape[1] == live else None

    def keep_mask(self, mask: Mask, batch: int, columns: Any) -> Mask:
        """Return a call's mask with what earlier calls said of padding; it holds for good.

        `columns` are the live tokens, this call's included.
        """
        if self.padding is None or self.padding.shape[0] != batch:  # other rows: refused later
            return mask
        if mask is not None and (isinstance(mask, dict) or mask.shape != (batch, columns)):
            return mask
        known = self.padding.new_ones(batch, columns)
        known[:, : self.padding.shape[1]] = self.padding
        return known if mask is None else known.to(mask.device) * mask

    def note_padding(self, real: Tensor | None, batch: int, tokens: int, live: int) -> None:
        """Remember which of a call's tokens are padding; `live` were read before."""
        if real is None and self.padding is None:
            return
        device = real.device if real is not None else None
        now = torch.ones(batch, live + tokens, dtype=torch.long, device=device)
        if self.padding is not None:
            now = now.to(self.padding.device)
            now[:, : self.padding.shape[1]] = self.padding
        if real is not None:
            now[:, live:] = real
        self.padding = now
        if real is not None and tokens > 1:
            steps = now[:, 1:] - now[:, :-1]
            ended = (steps < 0).cumsum(1) > 0
            self.ends_in_padding = bool(ended.any())
            self.has_holes = bool((ended & (steps > 0)).any())

    def crop(self, removed: int, live: int) -> None:
        """Forget the last `removed` tokens of every row; `live` remain."""
        if live == 0 or self.first is None or self.next_position is None or self.next_index is None:
            self.forget()
            return
        if self.ids is not None:
            self.ids = [torch.cat(self.ids, 1)[:, :live]] if self.ids else None
        if self.padding is not None:
            self.padding = self.padding[:, :live]
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
        if self.ids:
            self.ids = [change(torch.cat(self.ids, 1))]
        for name in ("next_position", "next_index", "index", "last", "padding"):
            if (tensor := getattr(self, name)) is not None:
                setattr(self, name, change(tensor))


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


def are_of_pictures(position_ids: Any, tokens: int) -> bool:
    """Whether positions place tokens as those of a picture: of text all three rows are alike."""
    if tokens == 1 or not isinstance(position_ids, Tensor) or position_ids.ndim != 3:
        return False
    rows = position_ids[-3:]
    return bool((rows != rows[:1]).any())
