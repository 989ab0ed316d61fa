"""The recurrent layers of hybrid models: their state after the memory is carried whole.

Knows transformers' linear-attention cache layer, which exists from 5.x on; nothing of segments.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import cache_utils

from tasm.backbone.geometry import Geometry, text_config
from tasm.backbone.hugging_face import HfConfig
from tasm.errors import InputError, ModelError

_Base: Any = getattr(cache_utils, "LinearAttentionLayer", object)


class StateMemoryLayer(_Base):
    """A recurrent layer that starts every session from a copy of the memory's state."""

    def __init__(self, number_of_states: int, initial: dict[str, Tensor]) -> None:
        if _Base is object:
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
