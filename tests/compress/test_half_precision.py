"""Builds of models that run in bfloat16: choices in float32, keys and values as the model has."""

import pytest
import torch

from tests.compress.tiny_backbone import build_tiny, logits_after, tiny_backbone

WORDS = [20, 21, 22]


@pytest.mark.parametrize("recipe", ["tasm", "tasm-paper", "full"])
@pytest.mark.parametrize("mode", ["joint", "streaming"])
def test_bfloat16(recipe: str, mode: str) -> None:
    exact = tiny_backbone()
    given = {"recipe": recipe, "mode": mode, "chunk_tokens": 60, "core": "60%", "bank": "0"}
    expected = logits_after(exact, build_tiny(exact, **given).cache(), WORDS)
    backbone = tiny_backbone()
    backbone.hf.to(torch.bfloat16)
    transcript = backbone.transcript(range(1, 6))
    pixels = transcript.images.tensors["pixel_values"]
    object.__setattr__(pixels, "values", pixels.values.bfloat16())
    memory = build_tiny(backbone, transcript, **given)
    layer = memory.core[1]
    assert layer is not None and layer.keys.dtype == torch.bfloat16
    found = logits_after(backbone, memory.cache(), WORDS).float()
    assert torch.isfinite(found).all()
    if recipe == "full":
        assert (found - expected).abs().max() < 0.2
        assert (found - expected).abs().max() > 0
