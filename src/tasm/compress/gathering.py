"""From the working layers of a finished build to what a memory holds."""

from collections.abc import Sequence

import torch

from tasm.backbone.attention.segment import Segment, join
from tasm.backbone.model import Backbone
from tasm.compress.compressor import Compressor
from tasm.compress.prefill import Encoded
from tasm.memory import LayerTokens


def core_of(
    backbone: Backbone, compressor: Compressor, encoded: Encoded
) -> list[LayerTokens | None]:
    """Return what every layer keeps; None for a recurrent layer."""
    core: list[LayerTokens | None] = []
    for layer, kind in enumerate(backbone.geometry.layer_kinds):
        if kind == "full":
            core.append(compressor.working[layer].layer_tokens())
        elif kind == "sliding":
            core.append(_window(encoded.segments[layer] or ()))
        else:
            core.append(None)
    return core


def _window(segments: Sequence[Segment]) -> LayerTokens | None:
    """A sliding layer's last tokens, whole."""
    if not segments:
        return None
    whole = join(segments)
    heads = whole.keys.shape[1]
    assert whole.index is not None
    index = whole.index.reshape(-1, whole.tokens).expand(heads, -1).to(torch.int32)
    return LayerTokens(whole.keys[0].clone(), whole.values[0].clone(), index.contiguous())


def banked_layers(compressor: Compressor) -> list[LayerTokens | None]:
    """Return what every layer banks."""
    layers: list[LayerTokens | None] = [None] * compressor.backbone.geometry.layers
    for layer, banked in compressor.banked.items():
        layers[layer] = banked.layer_tokens()
    return layers
