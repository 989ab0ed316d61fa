"""On a CUDA device: a full memory against the stock cache, every recipe, batches and banks.

Skipped where there is none; `pytest -m cuda` runs them alone.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from tasm.backbone import MemoryCache, attach, detach
from tasm.compress.recipes.table import all_recipes
from tests.backbone.attention.exactness import tiny_or_skip
from tests.compress.tiny_backbone import TinyBackbone, build_tiny
from tests.tiny_models import FAMILIES, Tiny, Turn, tiny_model

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
DTYPES = [torch.float32, torch.bfloat16]
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


class OnCuda(TinyBackbone):
    """A tiny backbone whose inputs go to the device."""

    def placed(self, *given: Any) -> dict[str, Any]:
        return moved(super().placed(*given), torch.bfloat16)
