"""The cache of a frozen model with a task memory: transformers sees live tokens only.

Knows segments, positions and layers; nothing of how a memory was built. `attach` makes a model able
to read it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.cache_layers import DynamicMemoryLayer, MemoryLayer, StaticMemoryLayer
from tasm.backbone.attention.live import LiveCache
from tasm.backbone.attention.masks import Mask, live_mask, real_tokens
from tasm.backbone.attention.positions import LiveRows
from tasm.backbone.attention.rotary import LengthSwitch
from tasm.backbone.attention.segment import Extra, Segment
from tasm.backbone.attention.starts import Starts
from tasm.backbone.attention.states import StateMemoryLayer, number_of_states
from tasm.backbone.checkpoint.identity import Identity
from tasm.backbone.geometry import layer_kinds, position_rows, sliding_window
from tasm.backbone.hugging_face import HfConfig
from tasm.errors import InputError

TranscriptDigest = str | Sequence[Sequence[Any]]
"""Of the tokens that a memory stands for: the digest of all, or (tokens, digest) of each piece."""


class MemoryCache(LiveCache):
    """A `past_key_values` whose memory is read by tasm's attention and never by transformers.

    ```python
    cache = MemoryCache.empty(model.config)
    model(**first_chunk, past_key_values=cache, logits_to_keep=1)
    cache.commit()                                                    # live tokens become memory
    output = model.generate(**query, past_key_values=cache.fork())    # any number of sessions
    ```

    Attributes: `starts`, where the live tokens of each row begin; `positions` (position_rows,
    tokens) of everything committed to this cache.
    """

    made_for: Identity | None = None
    """The `Identity` of the model whose memory this is; None where nothing is to be checked."""

    def __init__(
        self,
        layers: list[MemoryLayer],
        rows: LiveRows,
        *,
        config: HfConfig,
        starts: Starts,
        live_tokens: int | None,
        transcript: TranscriptDigest | None = None,
    ) -> None:
        super().__init__(layers, rows)
        self.transcript = transcript
        self.config = config
        self.starts = starts
        self.live_tokens = live_tokens
        self.positions = torch.empty(position_rows(config), 0, dtype=torch.long)
        self._states = [layer for layer in layers if isinstance(layer, StateMemoryLayer)]

    @classmethod
    def empty(cls, config: HfConfig, *, live_tokens: int | None = None) -> "MemoryCache":
        """Return a cache without memory, to encode into: `MemoryCache.empty(model.config)`."""
        return cls.from_segments(
            config, None, next_position=0, logical_length=0, live_tokens=live_tokens
        )

    @classmethod
    def from_segments(
        cls,
        config: HfConfig,
        segments: Sequence[Sequence[Segment] | None] | None,
        *,
        next_position: int | Sequence[int],
        logical_length: int | Sequence[int],
        extra: Extra | None = None,
        states: Sequence[dict[str, Tensor] | None] | None = None,
        live_tokens: int | None = None,
        transcript: TranscriptDigest | None = None,
    ) -> "MemoryCache":
        """Return a cache over segments, one sequence (or None) a layer.

        ```python
        cache = MemoryCache.from_segments(config, [[segment] for segment in layers],
                                          next_position=210, logical_length=260)
        ```

        `config` is a transformers configuration, or the `Geometry` that a memory keeps of one.
        `next_position` and `logical_length` are one number, or one a row where the rows have
        different memories: then a segment's `bias` switches off, with `UNUSED`, what a row has not.
        `states` gives the recurrent layers of hybrid models their state (see `states`).
        `live_tokens` makes the live part a buffer of that many tokens, for torch.compile and CUDA
        graphs. `transcript` is the `transcript_digest` of the tokens that the memory stands for: a
        prompt that begins with them is refused. Raises ModelError for a kind of layer that cannot
        have a memory, InputError for a wrong number of layers.
        """
        kinds = layer_kinds(config)
        for name, given in (("segments", segments), ("states", states)):
            if given is not None and len(given) != len(kinds):
                raise InputError(
                    f"{name} has {len(given)} entries but the model has {len(kinds)} layers."
                )
        rows, window = LiveRows(extra), sliding_window(config)
        layers: list[MemoryLayer] = []
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
            starts=Starts.of(next_position, logical_length),
            live_tokens=live_tokens,
            transcript=transcript,
        )

    @property
    def next_position(self) -> int:
        """Position of the first live token; of several rows' memories the furthest."""
        return max(self.starts.positions)

    @property
    def logical_length(self) -> int:
        """Tokens before the first live token; of several rows' memories the most."""
        return max(self.starts.indices)

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
        positions = self.live_rows.positions(live)
        if positions.shape[1] != 1:
            raise InputError(
                f"commit() takes one row of live tokens, but has {positions.shape[1]}."
            )
        if int(self.live_rows.next_index) != self.logical_length + live:  # type: ignore[arg-type]
            raise InputError("commit() takes live tokens without padding, but some are masked.")
        for layer in self.layers:
            layer.commit(self.logical_length)
        self.positions = torch.cat([self.positions.to(positions.device), positions[:, 0]], 1)
        self.starts = Starts.of(
            int(self.live_rows.next_position),  # type: ignore[arg-type]
            self.logical_length + live,
        )
        self.live_rows.forget()

    def fork(self) -> "MemoryCache":
        """Return a session of its own over the same memory: segments shared, nothing live."""
        extra = None if self.extra is None else self.extra.fork()
        if extra is not None:
            extra.reset()
        twin = MemoryCache.from_segments(
            self.config,
            self.segments,
            next_position=self.starts.positions,
            logical_length=self.starts.indices,
            extra=extra,
            states=self.states,
            live_tokens=self.live_tokens,
            transcript=self.transcript,
        )
        twin.positions = self.positions
        twin.made_for = self.made_for
        return twin

    def _map_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        super()._map_rows(change)
        self.starts = self.starts.map(change)

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
        """Arm the cache for one decoder call and return the positions of its tokens.

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
