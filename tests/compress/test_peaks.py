"""What a build holds at once: by how much a recipe's peak grows with the tokens, beside the stock
cache's that reads the same chunks.

Counted, not measured: bytes of the tensors alive, on a model whose keys and values outweigh its
activations. On two layers, of which one is worked on: what is held beside a layer weighs most.
"""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from tasm.backbone.checkpoint import random_models
from tasm.backbone.checkpoint.random_models import RandomModel
from tasm.backbone.loading import load_backbone
from tasm.bench.speed.counting import Counted, count_build, count_stock, growth
from tasm.compress.recipes.table import RECIPES

LAYERS = 2
LAYER = 2 * 2 * 64 * 4
"""Bytes a token of a layer's keys and values: two heads of 64 numbers in float32."""
WORDS = 15
LARGEST = 1.05
"""A core of a fifth may stand beside everything while it is tried."""
BESIDE = {"camelot": 1.2, "emloc-paper": 1.2}
"""Recipes whose own work on one of two layers, or on all demonstrations, stands beside it, too."""


def covering() -> Iterator[str]:
    """Recipes that have every part of every recipe among them."""
    seen: set[tuple[str, str]] = set()
    for name, recipe in RECIPES.items():
        all_parts = [recipe.parts, *(other.parts for other in recipe.others)]
        parts = {(kind, part.name) for one in all_parts for kind, part in one.items()}
        if recipe.kind == "memory" and parts - seen:
            seen |= parts
            yield name if name != "emloc" else "emloc-paper"  # which searches for no budget


@pytest.fixture(scope="module")
def shallow() -> Iterator[Any]:
    """The model of `tasm bench speed`'s counted builds with fewer layers."""
    whole = random_models.RANDOM_MODELS["qwen2_vl-shallow"]
    few = RandomModel(**{**vars(whole), "layers": LAYERS})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(random_models.RANDOM_MODELS, "qwen2_vl-shallow", few)
        yield load_backbone("random:qwen2_vl-shallow", dtype="float32", device="cpu")
    gc.unfreeze()  # as counting left it


def counted(shallow: Any, recipe: str) -> list[Counted]:
    return [count_build(shallow, recipe, count, WORDS) for count in (8, 16)]


@pytest.fixture(scope="module")
def stock(shallow: Any) -> list[Counted]:
    return [count_stock(shallow, count, WORDS) for count in (8, 16)]


def test_the_stock_cache_holds_its_tokens_and_one_layers_keys_twice(stock: list[Counted]) -> None:
    # A chunk is joined to the keys of its layer while the old ones are still there.
    assert LAYERS * LAYER <= growth(*stock) <= (LAYERS + 0.5) * LAYER * 1.3


def test_the_full_context_holds_its_tokens_once(shallow: Any, stock: list[Counted]) -> None:
    found = counted(shallow, "full")
    assert LAYERS * LAYER <= growth(*found) <= LAYERS * LAYER * 1.3  # the rest are pictures
    assert growth(*found) < growth(*stock)


@pytest.mark.parametrize("recipe", [name for name in covering() if name != "full"])
def test_no_peak_grows_much_faster_than_the_stock_caches(
    recipe: str, shallow: Any, stock: list[Counted]
) -> None:
    found = counted(shallow, recipe)
    assert growth(*found) <= BESIDE.get(recipe, LARGEST) * growth(*stock)
    assert found[-1].operations > stock[-1].operations
