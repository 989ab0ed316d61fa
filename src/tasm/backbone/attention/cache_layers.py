"""The layers of a memory cache: live tokens as transformers keeps them, segments beside them,
and the recurrent layers of hybrid models, whose state after the memory is carried whole.

Everything transformers asks (length, mask sizes, crop) is inherited and speaks of live tokens only.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from transformers import cache_utils
from transformers.cache_utils import DynamicLayer, StaticLayer

from tasm.backbone.attention.positions import LiveRows
from tasm.backbone.attention.segment import Segment, can_join, join
from tasm.backbone.geometry import Geometry, text_config
from tasm.backbone.hugging_face import HfConfig
from tasm.errors import InputError, ModelError, UnreadMemoryError

_Recurrent: Any = getattr(cache_utils, "LinearAttentionLayer", object)
"""transformers' linear-attention layer, from 5.x on."""


class SegmentsMixin:
    """Segments beside the live keys and values, and the guard that they are read."""

    segments: tuple[Segment, ...]
    rows: LiveRows
    window: int | None
    pending: bool

    def remember(self, segments: tuple[Segment, ...], rows: LiveRows, window: int | None) -> Self:
        """Set what lies beside the live tokens; `window` is a sliding layer's width."""
        self.segments, self.rows, self.window, self.pending = segments, rows, window, False
        return self

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append live tokens; the returned keys lead the attention function to this layer."""
        if not self.rows.armed:
            raise UnreadMemoryError(
                "A task memory was given to a model that is not attached: its positions and its "
                "attention would ignore the memory. Call tasm.backbone.attach(model) first "
                "(load_model and wrap do)."
            )
        keys, values = super().update(  # type: ignore[misc]
            key_states, value_states, *args, **kwargs
        )
        if any(not segment.lies_as(key_states) for segment in self.segments):
            self.segments = tuple(segment.as_live(key_states) for segment in self.segments)
        keys = keys[...]  # an alias, so that no stored tensor points back at its layer
        keys.tasm_layer = self
        self.pending = bool(self.segments) or self.rows.extra is not None
        return keys, values

    def map_segments(self, change: Callable[[Tensor], Tensor]) -> None:
        """Reorder, repeat or select the rows of segments that are not shared."""
        self.segments = tuple(segment.map_rows(change) for segment in self.segments)


class DynamicMemoryLayer(SegmentsMixin, DynamicLayer):
    """Live tokens that grow by concatenation.

    `room` says how many tokens will be committed in all, where that is known: they are written into
    one buffer, which is there once, and attention reads them as one segment.
    """

    room: int | None = None
    _buffers: tuple[Tensor, Tensor] | None = None

    def commit(self, logical_length: int) -> None:
        """Turn the live tokens into a segment, joined with earlier ones of no greater length.

        Joining like a binary counter keeps about log2(chunks) segments and copies a token about
        log2(chunks) times; with `room` nothing is joined. A sliding layer keeps only what later
        tokens can still see.
        """
        if self.keys is None or self.keys.numel() == 0:
            return
        stop = logical_length + self.keys.shape[2]
        if self.room is not None and self.window is None:
            self.segments = (self._written(logical_length, stop, self.room),)
            self.reset()
            return
        index = torch.arange(logical_length, stop, device=self.keys.device)[None]
        segments = [*self.segments, Segment(self.keys, self.values, None, index)]
        self.reset()
        if self.window is not None:
            segments = _within(segments, self.window - 1)
        while (
            len(segments) > 1
            and segments[-2].tokens <= segments[-1].tokens
            and can_join(segments[-2], segments[-1])
        ):
            segments[-2:] = [join(segments[-2:])]
        self.segments = tuple(segments)

    def _written(self, first: int, stop: int, room: int) -> Segment:
        """The segment of all tokens so far, the live ones written behind the earlier ones."""
        if stop > room:
            raise InputError(f"A cache with room for {room:,} tokens was to commit {stop:,}.")
        live: tuple[Tensor, Tensor] = (self.keys, self.values)  # type: ignore[assignment]
        buffers = self._buffers or tuple(
            one.new_empty(*one.shape[:2], room, one.shape[3]) for one in live
        )
        for buffer, one in zip(buffers, live, strict=True):
            buffer[:, :, first:stop] = one
        # Segments hold a full buffer, and whoever drops them frees it.
        self._buffers = (buffers[0], buffers[1]) if stop < room else None
        index = torch.arange(stop, device=buffers[0].device)[None]
        return Segment(buffers[0][:, :, :stop], buffers[1][:, :, :stop], None, index)

    def reset(self) -> None:
        """Forget the live tokens without writing to a tensor that a segment may hold."""
        self.keys = self.values = None
        self.is_initialized = False
        self.pending = False


def _within(segments: list[Segment], tokens: int) -> list[Segment]:
    """The last `tokens` tokens of segments in logical order."""
    kept: list[Segment] = []
    for segment in reversed(segments):
        if tokens > 0:
            kept.insert(0, segment.last(tokens))
        tokens -= segment.tokens
    return kept


class StaticMemoryLayer(SegmentsMixin, StaticLayer):
    """Live tokens in a buffer of fixed size, for torch.compile and CUDA graphs."""

    def commit(self, logical_length: int) -> None:
        """Refuse: a buffer cannot become a segment."""
        raise InputError(
            "A cache with a static live part cannot commit. Encode with one without `live_tokens`."
        )

    def reset(self) -> None:
        """Forget the live tokens; segments stay."""
        super().reset()
        self.pending = False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Reorder rows in place: the buffers keep their addresses."""
        if self.is_initialized:
            for buffer in (self.keys, self.values):
                buffer.copy_(buffer.index_select(0, beam_idx.to(buffer.device)))

    def crop(self, *_: Any) -> None:
        """Refuse: a static buffer cannot forget its last tokens."""
        raise InputError(
            "A cache with a static live part cannot be cropped. Use one without `live_tokens`."
        )

    def batch_repeat_interleave(self, *_: Any) -> None:
        """Refuse: a static buffer has a fixed batch."""
        raise InputError(
            "A cache with a static live part has a fixed batch. Use one without `live_tokens`."
        )

    batch_select_indices = batch_repeat_interleave


class StateMemoryLayer(_Recurrent):
    """A recurrent layer that starts every session from a copy of the memory's state."""

    def __init__(self, number_of_states: int, initial: dict[str, Tensor]) -> None:
        if _Recurrent is object:
            raise ModelError(
                "Hybrid linear-attention models need a newer transformers (5.23 is tested)."
            )
        super().__init__(number_of_states=number_of_states)
        self.initial = initial

    def begin(self, batch: int, device: torch.device, dtype: torch.dtype | None) -> None:
        """Load a copy of the memory's state for every row, where the model computes.

        `dtype` is the model's; the recurrent sums keep their own, which is usually float32.
        """
        for name, tensor in self.initial.items():
            kind, _, number = name.partition(".")
            place = int(number)
            held = tensor.to(device, dtype if kind == "conv" else None)
            state = held.expand(batch, *tensor.shape[1:]).clone()
            getattr(self, f"{kind}_states")[place] = state
            getattr(self, f"is_{kind}_states_initialized")[place] = True
            if kind == "conv":
                self.conv_kernel_size[place] = state.shape[-1]
            self.has_previous_state[place] = True
            self.device, self.dtype = state.device, state.dtype

    def commit(self, logical_length: int) -> None:
        """The state now becomes the state to start from."""
        self.initial = {
            f"{kind}.{place}": tensor.clone()
            for kind in ("conv", "recurrent")
            for place, tensor in getattr(self, f"{kind}_states").items()
            if tensor is not None
        }

    def reset(self) -> None:
        """Forget the live tokens; the next call starts from the memory's state."""
        super().__init__(number_of_states=self.number_of_states)

    def crop(self, *_: Any) -> None:
        """Refuse: a recurrent state cannot be rolled back."""
        raise InputError("A hybrid model's cache cannot be cropped: its recurrent state moved on.")

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        self._map(lambda tensor: tensor.repeat_interleave(repeats, 0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        self._map(lambda tensor: tensor[indices.to(tensor.device)])

    def _map(self, change: Callable[[Tensor], Tensor]) -> None:
        for states in (self.conv_states, self.recurrent_states):
            for place, tensor in states.items():
                if tensor is not None:
                    states[place] = change(tensor)


def number_of_states(config: HfConfig, state: dict[str, Tensor]) -> int:
    """Return how many states a recurrent layer keeps, by configuration or by a state given."""
    if isinstance(config, Geometry):  # a memory from disk: it knows sizes, not the configuration
        return max(1, sum(name.startswith("conv.") for name in state))
    return int(getattr(text_config(config), "number_of_conv_states", 1))


MemoryLayer = DynamicMemoryLayer | StaticMemoryLayer | StateMemoryLayer
"""What a layer of a `MemoryCache` is."""


def unread_memory() -> UnreadMemoryError:
    """The error for an attention call that did not read the segments it was given."""
    return UnreadMemoryError(
        "A task memory was given to the model, but the attention that ran did not read it. "
        "Expected attention implementation 'tasm': call tasm.backbone.attach(model), and do "
        "not set another one afterwards."
    )
