"""Recipes: found without torch, made with their settings, brought from outside the package."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
import torch

from tasm.compress.parts.base import Budget, Reducer, Scorer
from tasm.compress.recipes import table as recipes
from tasm.compress.recipes.recipe import Part
from tasm.compress.recipes.table import all_recipes, find_recipe
from tasm.errors import InputError, RecipeError, TasmError
from tests.compress.outside import LARGE_KEYS
from tests.compress.tiny_backbone import build_tiny, settings, tiny_backbone


@pytest.fixture
def from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("large-keys", "tests.compress.outside:LARGE_KEYS", "tasm.recipes")
    monkeypatch.setattr(recipes, "entry_points", lambda group: [entry])
    all_recipes.cache_clear()
    yield
    all_recipes.cache_clear()


def test_a_recipe_from_outside(from_outside: None) -> None:
    assert find_recipe("large-keys") is LARGE_KEYS
    backbone = tiny_backbone()
    memory = build_tiny(backbone, recipe="large-keys", core="20")
    whole = build_tiny(backbone, recipe="full").core[0]
    kept = memory.core[0]
    assert whole is not None and kept is not None
    norms = whole.keys.norm(dim=-1)
    norms[:, :4] = torch.inf  # the system prompt is always kept
    expected = norms.topk(20, dim=1).indices.sort(1).values
    assert torch.equal(kept.index.long(), expected)


def test_a_part_from_outside_needs_no_hash() -> None:
    part = Part("tests.compress.outside:Listed", {"signs": [1.0, 1.0]})
    recipe = replace(LARGE_KEYS, name="listed", scorer=part)
    backbone = tiny_backbone()
    listed, large = (
        build_tiny(backbone, recipe=one, core="20").core[0] for one in (recipe, LARGE_KEYS)
    )
    assert listed is not None and large is not None
    assert torch.equal(listed.index, large.index)


def test_an_entry_point_that_is_no_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("odd", "tests.compress.outside:LargeKeys", "tasm.recipes")
    monkeypatch.setattr(recipes, "entry_points", lambda group: [entry])
    all_recipes.cache_clear()
    with pytest.raises((RecipeError, TypeError)):
        all_recipes()
    all_recipes.cache_clear()


def test_unknown_recipe() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'tasm-paper'"):
        find_recipe("tasm-papr")


def test_two_recipes_of_one_name() -> None:
    with pytest.raises(RecipeError, match="'large-keys'"):
        recipes.table([LARGE_KEYS, LARGE_KEYS])


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_every_row_is_made_of_parts(name: str) -> None:
    recipe = find_recipe(name)
    json.dumps(recipe.to_json())
    if recipe.kind == "prompt":
        with pytest.raises(RecipeError, match="ordinary prompt"):
            settings(recipe=name)
        return
    assert recipe.scorer and recipe.budget and recipe.reducer
    assert isinstance(recipe.scorer.make(), Scorer)
    assert isinstance(recipe.budget.make(), Budget)
    assert isinstance(recipe.reducer.make(), Reducer)
    assert settings(recipe=name).gate is not None


def test_settings_that_a_part_does_not_take() -> None:
    recipe = find_recipe("tasm").with_settings(scorer={"colour": "red"})
    assert recipe.scorer is not None
    with pytest.raises(RecipeError, match="colour"):
        recipe.scorer.make()
    with pytest.raises(RecipeError, match="no 'flavour'"):
        find_recipe("tasm").with_settings(flavour={"colour": "red"})


def test_recipes_do_not_import_torch() -> None:
    code = (
        "import sys, tasm.compress.recipes.table as r; r.all_recipes(); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"mode": "jiont"}, "Did you mean 'joint'"),
        ({"mode": "neither"}, "one of"),
        ({"store": "float64"}, "float32"),
        ({"chunk_tokens": 0}, "1 or more"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        settings(**given)


def test_scores_that_are_no_numbers() -> None:
    recipe = LARGE_KEYS.with_settings(scorer={"sign": float("nan")})
    with pytest.raises(TasmError, match="not finite"):
        build_tiny(tiny_backbone(), recipe=recipe, core="20")
