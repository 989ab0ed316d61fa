"""Rotating and its inverse against the keys that the model itself makes."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tasm.backbone import MemoryCache, Rotary, attach, find_decoder
from tasm.backbone.decoder import attention_modules
from tasm.errors import ModelError
from tests.backbone.attention.exactness import encode, tiny_or_skip
from tests.tiny_models import FAMILIES, Tiny

pytestmark = pytest.mark.matrix

BASE = {"rope_theta": 10000.0, "original_max_position_embeddings": 32}
SCALED: dict[str, dict[str, Any]] = {
    "yarn": {"rope_type": "yarn", "factor": 4.0, **BASE},
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, **BASE,
    },
}  # fmt: skip


def keys_of(tiny: Tiny) -> tuple[MemoryCache, dict[int, Tensor]]:
    """A committed memory, and the keys before rotation as the modules gave them."""
    attach(tiny.model)
    plain: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            plain[layer] = output.detach()

        return hook

    handles = []
    for layer, module in attention_modules(find_decoder(tiny.model)).items():
        last = module.k_norm if getattr(module, "k_norm", None) is not None else module.k_proj
        handles.append(last.register_forward_hook(keep(layer)))
    memory = encode(tiny, [[tiny.turn(1), tiny.turn(2)]])
    for handle in handles:
        handle.remove()
    shaped = {}
    for layer, output in plain.items():
        rows = output.reshape(-1, 2, 16)  # either (1, tokens, heads * dim) or normed per head
        if output.ndim == 4 and output.shape[1] == 2:
            rows = output[0].transpose(0, 1)
        shaped[layer] = rows.transpose(0, 1).float()
    return memory, shaped


def check(tiny: Tiny) -> None:
    memory, plain = keys_of(tiny)
    rotary = Rotary(tiny.model)
    for layer, segments in enumerate(memory.segments):
        if segments is None:
            continue
        keys = torch.cat([segment.keys for segment in segments], 2)[0]
        seen = torch.cat([segment.index for segment in segments], 1)[0]
        positions = memory.positions[:, seen]
        back = rotary.unrotate(layer, keys, positions)
        torch.testing.assert_close(back, plain[layer][:, seen], atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(
            rotary.rotate(layer, back, positions), keys, atol=2e-6, rtol=1e-5
        )
        # Heads that keep other tokens: every head with positions of its own.
        order = torch.stack([torch.arange(len(seen)), torch.arange(len(seen)).flip(0)])
        mixed = torch.stack([keys[head, order[head]] for head in range(2)])
        own = rotary.unrotate(layer, mixed, positions[:, order])
        for head in range(2):
            torch.testing.assert_close(own[head], back[head, order[head]], atol=2e-6, rtol=1e-5)
        moved = rotary.rotate(layer, back, positions + 3)
        assert (moved - keys).abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_unrotated_keys_are_the_models_own(family: str) -> None:
    check(tiny_or_skip(family))


@pytest.mark.parametrize("kind", SCALED)
def test_scaled_rotations(kind: str) -> None:
    more = {"rope_theta": 10000.0, "max_position_embeddings": 64}
    check(tiny_or_skip("llama", rope_scaling=SCALED[kind], **more))


def test_the_models_own_buffers_stay() -> None:
    """Dynamic scaling writes into its buffers when it sees far positions."""
    tiny = tiny_or_skip("llama", rope_scaling=SCALED["dynamic"], max_position_embeddings=64)
    before = find_decoder(tiny.model).rotary_emb.inv_freq.clone()
    Rotary(tiny.model).rotate(0, torch.randn(2, 3, 16), torch.tensor([[0, 500, 1000]]))
    assert torch.equal(find_decoder(tiny.model).rotary_emb.inv_freq, before)


def test_dtype_and_precision() -> None:
    rotary = Rotary(tiny_or_skip("qwen2_vl").model)
    keys = torch.randn(2, 5, 16)
    positions = torch.tensor([[900, 901, 902, 903, 904]]).repeat(3, 1)
    turned = rotary.rotate(1, keys.bfloat16(), positions)
    assert turned.dtype == torch.bfloat16
    assert rotary.unrotate(1, turned, positions).dtype == torch.float32
    exact = rotary.rotate(1, keys.bfloat16().float(), positions)
    assert torch.equal(turned, exact.bfloat16())


def test_models_without_rotary_positions_are_refused() -> None:
    tiny = tiny_or_skip("llama")
    del find_decoder(tiny.model).rotary_emb
    with pytest.raises(ModelError, match="no `rotary_emb`"):
        Rotary(tiny.model)
