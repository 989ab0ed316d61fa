"""The layers of a memory cache: live tokens as transformers keeps them, segments beside them.

Everything transformers asks (length, mask sizes, crop) is inherited and speaks of live tokens only.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import cache_utils
from transformers.cache_utils import DynamicLayer, StaticLayer

from tasm.backbone.positions import LiveRows
from tasm.backbone.segment import Segment, can_join, join
from tasm.errors import InputError, UnreadMemoryError


class SegmentsMixin:
    """Segments beside the live keys and values, and the guard that they are read."""

    segments: tuple[Segment, ...]
    rows: LiveRows
    window: int | None
    pending: bool
    keys: Tensor | None
    values: Tensor | None

    def remember(self, segments: tuple[Segment, ...], rows: LiveRows, window: int | None) -> Any:
        """Set what lies beside the live tokens; `window` is a sliding layer's width."""
        self.segments, self.rows, self.window, self.pending = segments, rows, window, False
        return self

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append live tokens; the returned keys lead the attention function to this layer."""
        if not self.rows.armed:
            raise UnreadMemoryError(
                "A task memory was given to a model that is not attached: its positions and its attention would "
                "ignore the memory. Call tasm.backbone.attach(model) first (load_model and wrap do)."
            )
        if self.pending:
            raise unread_memory()
        keys, values = super().update(key_states, value_states, *args, **kwargs)  # type: ignore[misc]
        keys = keys[...]  # an alias, so that no stored tensor points back at its layer
        keys.tasm_layer = self
        self.pending = bool(self.segments) or self.rows.extra is not None
        return keys, values

    def map_segments(self, change: Callable[[Tensor], Tensor]) -> None:
        """Reorder, repeat or select the rows of segments that are not shared."""
        self.segments = tuple(segment.map_rows(change) for segment in self.segments)


class DynamicMemoryLayer(SegmentsMixin, DynamicLayer):
    """Live tokens that grow by concatenation."""

    def commit(self, logical_length: int) -> None:
        """Turn the live tokens into a segment, joined with earlier ones of no greater length.

        Joining like a binary counter keeps about log2(chunks) segments and copies a token log2(chunks)
        times at most. A sliding layer keeps only what later tokens can still see.
        """
        if self.keys is None or self.values is None or self.keys.numel() == 0:
            return
        index = torch.arange(
            logical_length, logical_length + self.keys.shape[2], device=self.keys.device
        )
        segments = [*self.segments, Segment(self.keys, self.values, None, index[None])]
        self.drop_live()
        while (
            len(segments) > 1
            and segments[-2].tokens <= segments[-1].tokens
            and can_join(*segments[-2:])
        ):
            segments[-2:] = [join(segments[-2:])]
        if self.window is not None:
            segments = (
                [join(segments)] if all(can_join(segments[0], s) for s in segments) else segments
            )
            if len(segments) == 1:
                segments = [segments[0].last(self.window - 1)] if self.window > 1 else []
        self.segments = tuple(segments)

    def drop_live(self) -> None:
        """Forget the live tokens without touching a tensor that a segment may hold."""
        self.keys = self.values = None
        self.is_initialized = False
        self.pending = False

    def reset(self) -> None:
        """Forget the live tokens; segments stay."""
        self.drop_live()


class StaticMemoryLayer(SegmentsMixin, StaticLayer):
    """Live tokens in a buffer of fixed size, for torch.compile and CUDA graphs."""

    def reset(self) -> None:
        """Forget the live tokens; segments stay."""
        super().reset()
        self.pending = False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Reorder rows in place: the buffers keep their addresses."""
        if self.is_initialized:
            self.keys.copy_(self.keys.index_select(0, beam_idx.to(self.keys.device)))
            self.values.copy_(self.values.index_select(0, beam_idx.to(self.values.device)))

    def crop(self, *_: Any) -> None:
        """Refuse: a static buffer cannot forget its last tokens."""
        raise InputError(
            "A cache with a static live part cannot be cropped. Use one without `live_tokens`."
        )

    def batch_repeat_interleave(self, *_: Any) -> None:
        """Refuse: a static buffer has a fixed batch."""
        raise InputError(
            "A cache with a static live part cannot repeat rows. Use one without `live_tokens`."
        )

    batch_select_indices = batch_repeat_interleave


def unread_memory() -> UnreadMemoryError:
    """The error for an attention call that did not read the segments it was given."""
    return UnreadMemoryError(
        "A task memory was given to the model, but the attention that ran did not read it. Expected attention "
        "implementation 'tasm': call tasm.backbone.attach(model), and do not set another one afterwards."
    )


LinearAttentionLayer: Any = getattr(cache_utils, "LinearAttentionLayer", None)
"""The recurrent layer of hybrid models; transformers has it from 5.x on."""

if LinearAttentionLayer is not None:

    class StateMemoryLayer(LinearAttentionLayer):
        """A recurrent layer whose state after the memory is kept whole and copied for every session."""

        initial: dict[str, Tensor] = {}

        def remember(self, initial: dict[str, Tensor]) -> Any:
            """Set the state to start from: `conv.I` and `recurrent.I` of batch 1."""
            self.initial = initial
            return self

        def begin(self, batch: int) -> None:
            """Load a copy of the memory's state for every row."""
            for name, tensor in self.initial.items():
                kind, number = name.split(".")
                i = int(number)
                state = tensor.expand(batch, *tensor.shape[1:]).clone()
                getattr(self, f"{kind}_states")[i] = state
                getattr(self, f"is_{kind}_states_initialized")[i] = True
                if kind == "conv":
                    self.conv_kernel_size[i] = state.shape[-1]
                self.has_previous_state[i] = True
                self.device, self.dtype = state.device, state.dtype

        def state(self) -> dict[str, Tensor]:
            """Return copies of the states now."""
            now: dict[str, Tensor] = {}
            for kind in ("conv", "recurrent"):
                for i, tensor in getattr(self, f"{kind}_states").items():
                    if getattr(self, f"is_{kind}_states_initialized")[i]:
                        now[f"{kind}.{i}"] = tensor.clone()
            return now

        def commit(self, logical_length: int) -> None:
            """The state now is the state to start from."""
            self.initial = self.state()

        def reset(self) -> None:
            """Forget the live tokens; the next call starts from the memory's state."""
            self.__init__(self.number_of_states)  # type: ignore[misc]

        def batch_repeat_interleave(self, repeats: int) -> None:
            """Repeat rows."""
            self._map(lambda tensor: tensor.repeat_interleave(repeats, 0))

        def batch_select_indices(self, indices: Tensor) -> None:
            """Select rows."""
            self._map(lambda tensor: tensor[indices])

        def _map(self, change: Callable[[Tensor], Tensor]) -> None:
            for states in (self.conv_states, self.recurrent_states):
                for i, tensor in states.items():
                    if tensor is not None:
                        states[i] = change(tensor)
