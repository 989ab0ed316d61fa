"""Recipes that are stored in four bits: the same memory, packed, and more tokens in a budget."""

from typing import Any

import pytest

import tasm
from tasm.bench.measure import stored_share
from tasm.bench.sources import read_episode
from tasm.compress.encoded import Encoded
from tasm.compress.recipes.table import PACKED, find_recipe


@pytest.fixture(scope="module")
def demonstrations(files: Any) -> Any:
    return read_episode(files / "demos.jsonl", files / "queries.jsonl").demonstrations


def test_it_is_the_same_recipe_stored_in_four_bits(backbone: Any, demonstrations: Any) -> None:
    for row in PACKED:
        plain = find_recipe(row.name.removesuffix("-int4"))
        assert row.parts == plain.parts and row.others == plain.others
        assert row.to_json()["store"] == "int4" and "store" not in plain.to_json()
    row = tasm.build(backbone, demonstrations, recipe="recent-int4", core="30%", seed=1)
    packed = tasm.build(backbone, demonstrations, recipe="recent", core="30%", seed=1, store="int4")
    assert row.packing == packed.packing == "int4"
    assert row.core_bytes == packed.core_bytes and row.core_counts == packed.core_counts
    assert row.recipe["settings"]["store"] == "int4"


def test_a_store_that_is_asked_for_goes_before_the_recipes_own(
    backbone: Any, demonstrations: Any
) -> None:
    memory = tasm.build(backbone, demonstrations, recipe="recent-int4", core="30%", store="float16")
    assert memory.packing is None and memory.dtype == "float16"


def test_a_share_of_bytes_is_one_of_the_full_context_in_16_bits(
    backbone: Any, demonstrations: Any
) -> None:
    recipes = [find_recipe(name) for name in ("recent", "recent-int4")]
    encoded = Encoded(backbone, demonstrations, recipes)
    plain, packed = (encoded.build(recipe, stored="40%", seed=1) for recipe in recipes)
    assert backbone.dtype.itemsize == 4
    share = (packed.core_bytes + packed.bank_bytes) / (packed.full_bytes / 2)
    assert stored_share(packed) == share and 0.3 < share <= 0.404
    assert packed.core_counts is not None and plain.core_counts is not None
    kept, fewer = (sum(map(sum, filter(None, one.core_counts))) for one in (packed, plain))
    assert kept > 1.5 * fewer
