"""What transformers calls on a cache about live tokens: rows, crop, reset.

Knows live tokens and who else keeps something a row; nothing of where a memory comes from.
"""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache

from tasm.backbone.attention.attention_call import AttentionCall
from tasm.backbone.attention.cache_layers import DynamicMemoryLayer, MemoryLayer, unread_memory
from tasm.backbone.attention.positions import LiveRows
from tasm.backbone.attention.segment import Extra
from tasm.errors import InputError


class LiveCache(Cache):
    """A cache whose counters, segments and retrieved tokens follow its rows."""

    def __init__(self, layers: list[MemoryLayer], rows: LiveRows) -> None:
        super().__init__(layers=layers)
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

    def expect_reading(self) -> None:
        """Expect every layer with a memory to read it before `end_call`."""
        for layer in self.layers:
            if getattr(layer, "segments", None):
                layer.pending = True

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
        if self.extra is not None:
            self.extra.reorder(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        super().batch_repeat_interleave(repeats)
        self._map_rows(lambda tensor: tensor.repeat_interleave(repeats, 0))
        if self.extra is not None:
            self.extra.repeat(repeats)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        super().batch_select_indices(indices)
        self._map_rows(lambda tensor: tensor[indices.to(tensor.device)])
        if self.extra is not None:
            self.extra.select(indices)

    def _map_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        self.live_rows.map(change)
        for layer in self.layers:
            if hasattr(layer, "map_segments"):
                layer.map_segments(change)
