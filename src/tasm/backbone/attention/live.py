"""The live tokens of a cache: what begins a call, and what transformers asks of its rows.

Knows where live tokens stand and who else keeps something a row; nothing of where a memory comes
from.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from tasm.backbone.attention.attention_call import AttentionCall
from tasm.backbone.attention.cache_layers import (
    DynamicMemoryLayer,
    MemoryLayer,
    StateMemoryLayer,
    unread_memory,
)
from tasm.backbone.attention.masks import Mask, live_mask, real_tokens
from tasm.backbone.attention.positions import LiveRows
from tasm.backbone.attention.rotary import LengthSwitch
from tasm.backbone.attention.segment import Extra
from tasm.backbone.attention.starts import Starts
from tasm.errors import InputError


class LiveCache(Cache):
    """A cache whose counters, segments and retrieved tokens follow its rows."""

    def __init__(
        self,
        layers: list[MemoryLayer],
        rows: LiveRows,
        starts: Starts,
        live_tokens: int | None,
        position_rows: int,
    ) -> None:
        super().__init__(layers=layers)
        self.starts = starts
        """Where the live tokens of each row begin."""
        self.live_tokens = live_tokens
        self.positions = torch.empty(position_rows, 0, dtype=torch.long)
        """(position_rows, tokens) of everything that was committed to this cache."""
        self._states = [layer for layer in layers if isinstance(layer, StateMemoryLayer)]
        self.live_rows = rows
        """What is known of every row's live tokens."""

    def __reduce__(self) -> Any:
        raise InputError(
            "A cache belongs to its process and cannot be pickled. Pass the memory on instead, "
            "saved and opened from disk (it travels as its path), and call memory.cache() there."
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "LiveCache":
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
        return twin

    @property
    def extra(self) -> Extra | None:
        """What brings further tokens into each attention call."""
        return self.live_rows.extra

    @property
    def recorder(self) -> Callable[[AttentionCall], None] | None:
        """Called with an `AttentionCall` for every layer of every forward pass, or None."""
        return self.live_rows.recorder

    @recorder.setter
    def recorder(self, recorder: Callable[[AttentionCall], None] | None) -> None:
        self.live_rows.recorder = recorder

    @property
    def live_positions(self) -> Tensor | None:
        """Positions (position_rows, batch, n) of the first live call's tokens, None before it."""
        return self.live_rows.first

    @property
    def next_position(self) -> int:
        """Position of the first live token; of several rows' memories the furthest."""
        return max(self.starts.positions)

    @property
    def logical_length(self) -> int:
        """Tokens before the first live token; of several rows' memories the most."""
        return max(self.starts.indices)

    def live_mask(self, mask: Mask, batch: int, tokens: int) -> Mask:
        """Return a call's attention mask as the mask of the live tokens alone; see `masks`.

        The padding of earlier calls is remembered, so a later call without a mask is right too.
        Raises InputError for a mask that cannot belong to the live tokens.
        """
        self.refuse_unfinished()
        rows = self.live_rows
        live: int | Tensor = self.get_seq_length()  # a tensor where the live part is a buffer
        if mask is not None and mask is rows.mask:
            return mask  # from a module further out
        fronts = None
        if rows.next_position is not None:
            fronts = (self.logical_length, rows.front or 0)
        elif rows.front is None and isinstance(mask, Tensor) and mask.ndim == 2:
            rows.front = mask.shape[1] - tokens
        mask = live_mask(
            mask, batch=batch, tokens=tokens, live=live, fronts=fronts, buffer=self.live_tokens
        )
        if mask is None or not torch.compiler.is_compiling():
            columns = live + tokens
            if mask is None and isinstance(live, Tensor):
                columns = self.live_tokens or 0
            mask = rows.keep_mask(mask, batch, columns)
        rows.mask = mask
        return mask

    def begin_call(
        self,
        tokens: Tensor,
        position_ids: Tensor | None,
        attention_mask: Mask,
        dtype: torch.dtype | None = None,
        switch: LengthSwitch | None = None,
    ) -> Tensor:
        """Arm the cache for one decoder call and return the positions of its tokens; every layer
        with a memory is expected to read it before `end_call`.

        `tokens` are ids (batch, n) or embeddings (batch, n, hidden); `attention_mask` is what
        `live_mask` returned; `dtype` is the model's, for states of recurrent layers; `switch` is
        where its rotation changes with the length.
        """
        rows, extra = self.live_rows, self.extra
        batch, count = tokens.shape[:2]
        begins = rows.next_position is None
        if not begins and count > 1 and extra is not None and not extra.chunkable:
            raise InputError(
                "A query was read in several calls (or by assisted decoding) while the memory "
                "retrieves from its bank. Read it in one call, or use gate='never'."
            )
        before = min(self.starts.positions)
        if switch is not None and rows.next_position is not None:
            before = int(rows.next_position.min())
        real = self._real(attention_mask, batch, count, begins)
        numbers = self.positions.shape[0]
        live = 0 if begins or rows.places is None else int(self.get_seq_length())
        positions = rows.place(
            batch, count, tokens.device, position_ids, real, self.starts, numbers, live
        )
        if switch is not None and not torch.compiler.is_compiling():
            switch.check(before, int(positions.max()) + 1)
        for layer in self._states if begins else ():
            layer.begin(batch, tokens.device, dtype)
        rows.take_ids(batch, count)
        rows.mask = rows.places = None
        rows.armed = True
        for layer in self.layers:
            if getattr(layer, "segments", None):
                layer.pending = True
        return positions

    def _real(self, mask: Mask, batch: int, count: int, begins: bool) -> Tensor | None:
        """Which tokens of a call are no padding, None where all are; refuses what has no place."""
        rows, live = self.live_rows, self.get_seq_length()
        real = real_tokens(mask, batch, count, live)
        if torch.compiler.is_compiling():  # reading numbers would break the graph
            return real
        live = int(live)
        self.check_room(live + count)
        if real is not None and (begins or count > 1) and bool(real.all()):
            real = None
        if self._states and real is not None and (begins or count > 1):
            raise InputError(
                "A padded batch was given to a hybrid model with a memory: its recurrent state "
                "would pass over the padding. Ask one query at a time, or queries of equal length."
            )
        continues = rows.ends_in_padding
        if real is None or begins or count > 1 or rows.padding is not None:
            rows.note_padding(real, batch, count, live)
        slides = any(getattr(layer, "window", None) is not None for layer in self.layers)
        if slides and (continues or rows.has_holes):
            raise InputError(
                "Padding stands between the tokens of a row, and this model has sliding-window "
                "layers, which would count it. Pad on the left."
            )
        return real

    def placeholder_positions(self, tokens: Tensor) -> Tensor | None:
        """Positions for one more token of each row where they have three rows, else None."""
        rows = self.positions.shape[0]
        if self.live_rows.next_position is None or tokens.shape[1] > 1 or rows == 1:
            return None
        return torch.zeros(rows, *tokens.shape[:2], dtype=torch.long, device=tokens.device)

    def refuse_unfinished(self) -> None:
        """Raise InputError where the last call broke off between layers."""
        if self.live_rows.armed:
            raise InputError(
                "The last call of this cache did not end, so its layers hold different tokens. "
                "Take a fresh memory.cache() or cache.fork(), or call cache.reset()."
            )

    def check_room(self, tokens: int) -> None:
        """Raise InputError where a live part of fixed size cannot hold so many tokens."""
        if self.live_tokens is not None and tokens > self.live_tokens:
            raise InputError(
                f"The cache was made with live_tokens={self.live_tokens}, and question and answer "
                f"need {tokens}. Make it with live_tokens={tokens} or more, or without, which "
                "grows."
            )

    def end_call(self) -> None:
        """Disarm the cache; raises UnreadMemoryError if a layer's memory was not read."""
        if any(getattr(layer, "pending", False) for layer in self.layers):
            raise unread_memory()  # armed still: the live tokens are of no use
        self.live_rows.armed = False

    def crop(self, tokens: int) -> None:
        """Drop the last live tokens, as transformers' own caches of the installed version do."""
        if not self.is_croppable:
            raise InputError(
                "This cache cannot be cropped: it retrieves from a bank, or its live part is "
                "fixed or recurrent. Use gate='never' and no `live_tokens`."
            )
        before = int(self.get_seq_length())
        super().crop(tokens)
        after = int(self.get_seq_length())
        self.live_rows.crop(before - after, after)

    @property
    def is_croppable(self) -> bool:
        """Whether `crop` leaves no trace, as assisted decoding needs it."""
        plain = all(isinstance(layer, DynamicMemoryLayer) for layer in self.layers)
        return plain and (self.extra is None or self.extra.chunkable)

    def reset(self) -> None:
        """Forget all live tokens and what was retrieved; the memory stays."""
        super().reset()
        self.live_rows.forget()
        self.live_rows.armed = False
        if self.extra is not None:
            self.extra.reset()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Reorder rows (beam search)."""
        super().reorder_cache(beam_idx)
        self._map_rows(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        super().batch_repeat_interleave(repeats)
        self._map_rows(lambda tensor: tensor.repeat_interleave(repeats, 0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        super().batch_select_indices(indices)
        self._map_rows(lambda tensor: tensor[indices.to(tensor.device)])

    def _map_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        self.live_rows.map(change)
        self.starts = self.starts.map(change)
        if self.extra is not None:
            self.extra.map_rows(change)
        for layer in self.layers:
            if hasattr(layer, "map_segments"):
                layer.map_segments(change)
