"""The memory that learns: its keys, values and biases as numbers with gradients.

Layers without full attention, states of recurrent layers and everything of the model stay as they
are; no layer gets a bias that had none, so that the memory keeps its size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.segment import UNUSED, Segment
from tasm.backbone.model import Backbone
from tasm.compress.polish.teaching import Taught
from tasm.memory.layer import LayerTokens


@dataclass(eq=False)
class Pupil:
    """What is kept of each layer (None where nothing is), to be asked and changed.

    `learned` are the numbers that change, in float32, by layer and name.
    """

    backbone: Backbone
    layers: Sequence[LayerTokens | None]
    states: Sequence[Mapping[str, Tensor] | None]
    next_position: int
    logical_length: int
    learned: dict[tuple[int, str], Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kinds = self.backbone.geometry.layer_kinds
        for number, layer in enumerate(self.layers):
            if layer is None or kinds[number] != "full" or layer.keys.shape[1] == 0:
                continue
            for name in ("keys", "values", "bias"):
                tensor = getattr(layer, name)
                if tensor is not None:
                    own = tensor.detach().float().clone()
                    self.learned[number, name] = own.requires_grad_()

    def loss(self, taught: Taught) -> Tensor:
        """Return the divergence KL(full context ‖ memory) of what is said, nats, a mean over the
        answers' tokens."""
        backbone = self.backbone
        output = backbone.decoder(  # type: ignore[operator]
            **taught.calls, past_key_values=self.cache()
        )
        final = output[0] if isinstance(output, tuple) else output.last_hidden_state
        said = final[:, -taught.states.shape[1] :][taught.counts]
        with torch.no_grad():
            wanted = self._log_probabilities(taught.states[taught.counts])
        given = self._log_probabilities(said)
        return torch.nn.functional.kl_div(given, wanted, log_target=True, reduction="batchmean")

    def kept(self, learned: Mapping[tuple[int, str], Tensor]) -> list[LayerTokens | None]:
        """Return the layers with these numbers, in the dtypes they had."""
        found = list(self.layers)
        for (number, name), tensor in learned.items():
            layer = found[number]
            assert layer is not None
            changed: dict[str, Any] = {name: tensor.detach().to(getattr(layer, name).dtype)}
            found[number] = replace(layer, **changed)
        return found

    def _log_probabilities(self, states: Tensor) -> Tensor:
        backbone = self.backbone
        assert backbone.head is not None
        return backbone.head.logits(backbone.hf.get_output_embeddings()(states)).log_softmax(-1)

    def cache(self) -> MemoryCache:
        """Return a fresh cache over what is learned so far."""
        segments: list[tuple[Segment, ...] | None] = []
        for number, layer in enumerate(self.layers):
            if layer is None:
                segments.append(None)
                continue
            if (number, "keys") not in self.learned:
                segments.append((layer.segment(),))
                continue
            bias = self.learned.get((number, "bias"))
            if layer.padding is not None:
                bias = (
                    torch.zeros_like(layer.padding, dtype=torch.float32) if bias is None else bias
                )
                bias = bias.masked_fill(layer.padding, UNUSED)
            keys, values = self.learned[number, "keys"], self.learned[number, "values"]
            segments.append(
                (
                    Segment(
                        keys[None], values[None], None if bias is None else bias[None], layer.index
                    ),
                )
            )
        return MemoryCache.from_segments(
            self.backbone.hf.config,
            segments,
            next_position=self.next_position,
            logical_length=self.logical_length,
            states=[None if state is None else dict(state) for state in self.states],
        )
