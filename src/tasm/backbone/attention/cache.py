"""The cache of a frozen model with a task memory: transformers sees live tokens only.

Knows segments, positions and layers; nothing of how a memory was built. `attach` makes a model able
to read it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.cache_layers import (
    DynamicMemoryLayer,
    MemoryLayer,
    StateMemoryLayer,
    StaticMemoryLayer,
    number_of_states,
)
from tasm.backbone.attention.live import LiveCache
from tasm.backbone.attention.positions import LiveRows
from tasm.backbone.attention.segment import Extra, Segment
from tasm.backbone.attention.starts import Starts
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
    """

    made_for: Identity | None = None
    """The `Identity` of the model whose memory this is; None where nothing is to be checked."""

    config: HfConfig
    transcript: TranscriptDigest | None

    @classmethod
    def empty(cls, config: HfConfig, *, room: int | None = None) -> "MemoryCache":
        """Return a cache without memory, to encode into: `MemoryCache.empty(model.config)`.

        `room` is how many tokens will be committed in all, where that is known: then they are not
        copied from buffer to larger buffer as they come.
        """
        cache = cls.from_segments(config, None, next_position=0, logical_length=0)
        for layer in cache.layers:
            if isinstance(layer, DynamicMemoryLayer):
                layer.room = room
        return cache

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
        `states` gives the recurrent layers of hybrid models their state (see `StateMemoryLayer`).
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
        starts = Starts.of(next_position, logical_length)
        cache = cls(layers, rows, starts, live_tokens, position_rows(config))
        cache.config, cache.transcript = config, transcript
        return cache

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
