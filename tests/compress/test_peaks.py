"""What a build holds at once: no recipe's peak grows faster with the tokens than the full cache's.

Counted, not measured: bytes of the tensors alive, on a model whose keys and values outweigh its
activations. A recipe that tries memories before it chooses one holds what hides the others' tokens,
and EMLoC the inputs of two layers.
"""

from typing import Any

import pytest

from tasm.backbone.checkpoint import random_models
from tasm.backbone.checkpoint.random_models import RandomModel
from tasm.backbone.loading import load_backbone
from tasm.bench.speed.counting import build_peak, growth

LAYERS = 6
LARGEST = 1.05
"""Of recipes that choose without trying; on six layers, of which one is worked on."""

TRYING = {"tasm": 1.15, "emloc-paper": 1.3}

RECIPES = [
    "tasm-paper", "snapkv", "expected-attention", "tome", "ems", "kvmerger", "cam", "kvzip",
]  # fmt: skip
"""One of every kind of scorer, budget and reducer."""


@pytest.fixture(scope="module")
def deep() -> Any:
    """The model of `tasm bench speed`'s counted peaks with fewer layers."""
    whole = random_models.RANDOM_MODELS["qwen2_vl-deep"]
    few = RandomModel(**{**vars(whole), "layers": LAYERS})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(random_models.RANDOM_MODELS, "qwen2_vl-deep", few)
        return load_backbone("random:qwen2_vl-deep", dtype="float32", device="cpu")


def grows(deep: Any, recipe: str) -> float:
    return growth(*(build_peak(deep, recipe, count) for count in (2, 4)))


@pytest.fixture(scope="module")
def full(deep: Any) -> float:
    return grows(deep, "full")


def test_the_full_context_holds_its_cache_and_one_layer_joined(deep: Any, full: float) -> None:
    head_dim, kv_heads, bytes_each = 64, 2, 4
    layer = 2 * kv_heads * head_dim * bytes_each
    assert LAYERS * layer <= full <= (LAYERS + 1) * layer * 1.1


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_peak_grows_faster_than_the_full_caches(recipe: str, deep: Any, full: float) -> None:
    assert grows(deep, recipe) <= LARGEST * full


@pytest.mark.parametrize("recipe", TRYING)
def test_recipes_that_try_hide_and_copy_nothing(recipe: str, deep: Any, full: float) -> None:
    assert full < grows(deep, recipe) <= TRYING[recipe] * full
