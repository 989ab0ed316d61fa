"""Tiny backbones on the pretended device, and tensors compared with those of a plain CPU."""

from typing import Any

import torch
from torch import Tensor

from tasm.backbone.prompt.images import ImageInputs
from tasm.memory import LayerTokens
from tests.compress.tiny_backbone import TinyBackbone
from tests.pretended_device import moved, values
from tests.tiny_models import tiny_model


class BackboneElsewhere(TinyBackbone):
    """A tiny backbone whose inputs go to where the model is."""

    @property
    def device(self) -> torch.device:
        return self.hf.device

    def placed(self, ids: dict[str, Tensor], images: ImageInputs) -> dict[str, Any]:
        inputs = super().placed(ids, images)
        return {name: value.to(self.device) for name, value in inputs.items()}


def elsewhere(family: str = "qwen2_vl", dtype: torch.dtype = torch.float32) -> BackboneElsewhere:
    """A backbone on the pretended device; call it while pretending."""
    tiny = tiny_model(family)
    moved(tiny.model.to(dtype), "pretended")
    return BackboneElsewhere(tiny)


def assert_same_layer(
    found: LayerTokens | None, expected: LayerTokens | None, tolerance: float = 1e-5
) -> None:
    """The same tokens with the same keys and values, wherever they lie."""
    assert (found is None) == (expected is None)
    if found is None or expected is None:
        return
    assert found.counts == expected.counts
    assert torch.equal(values(found.index), expected.index)
    for one, other in ((found.keys, expected.keys), (found.values, expected.values)):
        torch.testing.assert_close(values(one), other, atol=tolerance, rtol=tolerance)
    assert (found.bias is None) == (expected.bias is None)
    if found.bias is not None:
        torch.testing.assert_close(values(found.bias), expected.bias, atol=1e-5, rtol=1e-5)
