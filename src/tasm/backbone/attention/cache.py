"""The cache of a frozen model with a task memory: transformers sees live tokens only.

Knows segments, positions and layers; nothing of how a memory was built. `attach` makes a model able
to read it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.layers import DynamicMemoryLayer, StaticMemoryLayer
from tasm.backbone.attention.live import LiveCache
from tasm.backbone.attention.positions import LiveRows
from tasm.backbone.attention.segment import Extra, Segment
from tasm.backbone.attention.states import StateMemoryLayer, number_of_states, refuse_padding
from tasm.backbone.geometry import layer_kinds, position_rows, sliding_window
from tasm.errors import InputError


class MemoryCache(LiveCache):
    """A `past_key_values` whose memory is read by tasm's attention and never by transformers.

    ```python
    cache = MemoryCache.empty(model.config)
    model(**first_chunk, past_key_values=cache, logits_to_keep=1)
    cache.commit()                                                    # live tokens become memory
    output = model.generate(**query, past_key_values=cache.fork())    # any number of sessions
    ```

    Attributes: `next_position`, the position of the first live token; `logical_length`, the tokens
    before it; `positions` (position_rows, tokens) of everything committed to this cache.
    """

    def __init__(
        self,
        layers: list[Any],
        rows: LiveRows,
        *,
        config: Any,
        next_position: int,
        logical_length: int,
        live_tokens: int | None,
    ) -> None:
        super().__init__(layers, rows)
        self.config = config
        self.next_position = next_position
        self.logical_length = logical_length
        self.live_tokens = live_tokens
        self.positions = torch.empty(position_rows(config), 0, dtype=torch.long)
        self._states = [layer for layer in layers if isinstance(layer, StateMemoryLayer)]

    @classmethod
    def empty(cls, config: Any, *, live_tokens: int | None = None) -> "MemoryCache":
        """Return a cache without memory, to encode into: `MemoryCache.empty(model.config)`."""
        return cls.from_segments(
            config, None, next_position=0, logical_length=0, live_tokens=live_tokens
        )

    @classmethod
    def from_segments(
        cls,
        config: Any,
        segments: Sequence[Sequence[Segment] | None] | None,
        *,
        next_position: int,
        logical_length: int,
        extra: Extra | None = None,
        states: Sequence[dict[str, Tensor] | None] | None = None,
        live_tokens: int | None = None,
    ) -> "MemoryCache":
        """Return a cache over segments, one sequence (or None) a layer.

        ```python
        cache = MemoryCache.from_segments(config, [[segment] for segment in layers],
                                          next_position=210, logical_length=260)
        ```

        `config` is a transformers configuration, or the `Geometry` that a memory keeps of one.
        `states` gives the recurrent layers of hybrid models their state (see `states`).
        `live_tokens` makes the live part a buffer of that many tokens, for torch.compile and CUDA
        graphs. Raises ModelError for a kind of layer that cannot have a memory, InputError for a
        wrong number of layers.
        """
        kinds = layer_kinds(config)
        for name, given in (("segments", segments), ("states", states)):
            if given is not None and len(given) != len(kinds):
                raise InputError(
                    f"{name} has {len(given)} entries but the model has {len(kinds)} layers."
                )
        rows, window = LiveRows(extra), sliding_window(config)
        layers: list[Any] = []
        for number, kind in enumerate(kinds):
            if kind == "linear":
                state = (states[number] if states is not None else None) or {}
                layers.append(StateMemoryLayer(number_of_states(config, state), state))
                continue
            beside = tuple((segments[number] if segments is not None else None) or ())
            layer = DynamicMemoryLayer() if live_tokens is None else StaticMemoryLayer(live_tokens)
            layers.append(layer.remember(beside, rows, window if kind == "sliding" else None))
        return cls(
            layers,
            rows,
            config=config,
            next_position=next_position,
            logical_length=logical_length,
            live_tokens=live_tokens,
        )

    @property
    def segments(self) -> list[tuple[Segment, ...] | None]:
        """The segments of each layer; None for a recurrent layer."""
        return [getattr(layer, "segments", None) for layer in self.layers]

    @property
    def states(self) -> list[dict[str, Tensor] | None]:
        """Each recurrent layer's state after the memory, `conv.I` and `recurrent.I`, or None."""
        return [getattr(layer, "initial", None) for layer in self.layers]

    def commit(self) -> None:
        """Turn the live tokens into memory: immutable segments, positions recorded.

        Raises InputError for more than one row, for padding, and where the live part is static.
        """
        live = int(self.get_seq_length())
        if live == 0:
            return
        positions = self._rows.positions(live)
        if positions.shape[1] != 1:
            raise InputError(
                f"commit() takes one row of live tokens, but has {positions.shape[1]}."
            )
        if int(self._rows.next_index) != self.logical_length + live:  # type: ignore[arg-type]
            raise InputError("commit() takes live tokens without padding, but some are masked.")
        for layer in self.layers:
            layer.commit(self.logical_length)
        self.positions = torch.cat([self.positions.to(positions.device), positions[:, 0]], 1)
        self.next_position = int(self._rows.next_position)  # type: ignore[arg-type]
        self.logical_length += live
        self._rows.forget()

    def fork(self) -> "MemoryCache":
        """Return a session of its own over the same memory: segments shared, nothing live."""
        extra = None if self.extra is None else self.extra.fork()
        if extra is not None:
            extra.reset()
        twin = MemoryCache.from_segments(
            self.config,
            self.segments,
            next_position=self.next_position,
            logical_length=self.logical_length,
            extra=extra,
            states=self.states,
            live_tokens=self.live_tokens,
        )
        twin.positions = self.positions
        return twin

    def begin_call(
        self, tokens: Tensor, position_ids: Tensor | None, attention_mask: Any
    ) -> Tensor:
        """Arm the cache for one decoder call and return the positions of its tokens.

        `tokens` are ids (batch, n) or embeddings (batch, n, hidden).
        """
        rows, extra = self._rows, self.extra
        batch, count = tokens.shape[:2]
        begins = rows.next_position is None
        if not begins and count > 1 and extra is not None and not extra.chunkable:
            raise InputError(
                "A query was read in several calls (or by assisted decoding) while the memory "
                "retrieves from its bank. Read it in one call, or use gate='never'."
            )
        start = (self.next_position, self.logical_length, self.positions.shape[0])
        positions = rows.place(batch, count, tokens.device, position_ids, attention_mask, start)
        if self._states and (begins or count > 1):
            refuse_padding(attention_mask)
        for layer in self._states if begins else ():
            layer.begin(batch)
        rows.armed = True
        return positions
