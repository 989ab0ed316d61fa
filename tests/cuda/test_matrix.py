"""On a CUDA device: a full memory against the stock cache, every recipe, batches and banks.

Skipped where there is none; `pytest -m cuda` runs them alone.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from tasm.backbone import UNUSED, MemoryCache, attach, detach
from tasm.backbone.attention.kernels import partial_attention
from tasm.compress.recipes.table import all_recipes
from tests.backbone.attention.exactness import tiny_or_skip
from tests.compress.tiny_backbone import TinyBackbone, build_tiny
from tests.tiny_models import FAMILIES, Tiny, Turn, tiny_model

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def float32_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vision tower's convolution rounds to TF32 unless told not to, stock's as ours."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


RECIPES = [name for name, recipe in all_recipes().items() if recipe.kind == "memory"]


def moved(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Inputs on the device, pictures in the model's dtype."""
    return {
        name: value.to("cuda", dtype) if value.is_floating_point() else value.to("cuda")
        for name, value in inputs.items()
    }


def logits(tiny: Tiny, inputs: dict[str, Tensor], **given: Any) -> Tensor:
    dtype = next(tiny.model.parameters()).dtype
    with torch.no_grad():
        return tiny.model(**moved(inputs, dtype), use_cache=True, **given).logits[:, -1].double()


def committed(tiny: Tiny, turns: list[Turn]) -> MemoryCache:
    attach(tiny.model)
    cache = MemoryCache.empty(tiny.model.config)
    logits(tiny, tiny.inputs(turns), past_key_values=cache)
    cache.commit()
    return cache


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_full_memory_equals_stock(family: str, dtype: torch.dtype) -> None:
    """float32: within 1e-4. bfloat16: no further from float64 than 1.5 times stock attention."""
    tiny = tiny_or_skip(family)
    turns, query = [tiny.turn(1), tiny.turn(2, 9)], tiny.turn(10)
    exact = tiny_or_skip(family)
    exact.model.to("cuda", torch.float64)
    tiny.model.to("cuda", dtype)
    if hasattr(exact.model, "set_experts_implementation"):  # the grouped product has no float64
        exact.model.set_experts_implementation("eager")
    exact.model.load_state_dict(tiny.model.state_dict())  # the rounded weights, calculated exactly
    detach(exact.model, "eager")
    wanted = logits(exact, tiny.inputs([*turns, query]))
    ours = logits(tiny, tiny.inputs([query]), past_key_values=committed(tiny, turns).fork())
    if dtype == torch.float32:
        torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=0)
        return
    detach(tiny.model, "sdpa" if "gpt_oss" not in family else "eager")
    stock = logits(tiny, tiny.inputs([*turns, query]))
    assert (ours - wanted).pow(2).mean().sqrt() <= 1.5 * (stock - wanted).pow(2).mean().sqrt()


@pytest.mark.parametrize("mode", ["joint", "streaming"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe(recipe: str, mode: str) -> None:
    if mode not in all_recipes()[recipe].modes:
        pytest.skip(f"{recipe} is not built in mode {mode}")
    tiny = tiny_model("qwen2_vl")
    tiny.model.to("cuda", torch.bfloat16)
    core = None if all_recipes()[recipe].keeps_everything else "24"
    memory = build_tiny(
        OnCuda(tiny), 3, recipe=recipe, core=core, bank="10", mode=mode, chunk_tokens=30
    )
    batch = {"input_ids": torch.tensor([[12, 13, 14], [0, 15, 16]])}
    batch["attention_mask"] = torch.tensor([[1, 1, 1], [0, 1, 1]])
    for place in ("device", "host"):
        cache = memory.cache(device="cuda", dtype=torch.bfloat16, bank_on=place)
        together = logits(tiny, batch, past_key_values=cache)
        assert together.isfinite().all()


@pytest.mark.parametrize("recipe", ["tasm", "compact", "snapkv"])
@pytest.mark.parametrize("family", ["qwen2_vl", "gemma2", "llava"])
def test_a_compressed_memory_answers_as_on_a_cpu(family: str, recipe: str) -> None:
    """One memory in float32: core, biases and everything retrieved, on the device and beside it."""
    tiny = tiny_or_skip(family)
    bank = {} if all_recipes()[recipe].bank == "0" else {"bank": "10"}
    memory = build_tiny(TinyBackbone(tiny), 5, recipe=recipe, core="24", **bank)
    query, gate = tiny.inputs([tiny.turn(10)]), "always" if bank else "never"
    with torch.no_grad():
        wanted = tiny.model(**query, past_key_values=memory.cache(gate=gate)).logits[:, -1]
    tiny.model.to("cuda")
    for place in ("device", "host"):
        cache = memory.cache(device="cuda", dtype=torch.float32, gate=gate, bank_on=place)
        ours = logits(tiny, query, past_key_values=cache)
        torch.testing.assert_close(ours.float().cpu(), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 1), (3, 5)])
@pytest.mark.parametrize("own_keys", [False, True])
@pytest.mark.parametrize("bias", ["none", "key", "row", "batch"])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_kernel(
    shape: tuple[int, int], own_keys: bool, bias: str, softcap: float | None, dtype: torch.dtype
) -> None:
    """Whatever is chosen is attention: against float64, expanded over heads and batch."""
    torch.manual_seed(0)
    batch, rows = shape
    query = torch.randn(batch, 6, rows, 64).to(dtype)
    key, value = torch.randn(2, batch if own_keys else 1, 2, 33, 64).to(dtype)
    sizes = {"none": None, "key": (1, 2, 1), "row": (1, 1, rows), "batch": (batch, 2, 1)}[bias]
    added = None if sizes is None else 4 * torch.rand(*sizes, 33)
    if added is not None:
        added[..., 7] = UNUSED
    given = [one.cuda() for one in (query, key, value)]
    output, sums = partial_attention(
        *given, None if added is None else added.cuda(), 0.125, softcap
    )
    keys, values = (one.double().repeat_interleave(3, 1) for one in (key, value))
    exact = query.double() @ keys.transpose(2, 3) * 0.125
    exact = exact if softcap is None else torch.tanh(exact / softcap) * softcap
    if added is not None:
        exact = exact + added.double().repeat_interleave(3 if added.shape[1] > 1 else 1, 1)
    allowed = 2e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(sums.double().cpu(), exact.logsumexp(-1), atol=2e-4, rtol=0)
    torch.testing.assert_close(
        output.double().cpu(), exact.softmax(-1) @ values, atol=allowed, rtol=0
    )


@pytest.mark.parametrize(("recipe", "gate"), [("compact", "never"), ("tasm", "js")])
def test_a_step_waits_for_nothing(recipe: str, gate: str) -> None:
    """No layer of a decode step makes the host wait, whether the gate is asked or not."""
    tiny = tiny_model("llama")
    tiny.model.to("cuda", torch.bfloat16)
    memory = build_tiny(OnCuda(tiny), 5, recipe=recipe, core="24")
    cache = memory.cache(device="cuda", dtype=torch.bfloat16, gate=gate, bank_on="device")
    token = {"input_ids": torch.tensor([[12]], device="cuda")}
    for _ in range(2):
        logits(tiny, token, past_key_values=cache)
    torch.cuda.set_sync_debug_mode("error")
    try:
        logits(tiny, token, past_key_values=cache)
    finally:
        torch.cuda.set_sync_debug_mode("default")


class OnCuda(TinyBackbone):
    """A tiny backbone whose inputs go to the device."""

    def placed(self, *given: Any) -> dict[str, Any]:
        return moved(super().placed(*given), torch.bfloat16)
