"""Parts of recipes by name: what is stored of them, and where their classes are found."""

import json
from pathlib import Path

import pytest

from tasm.compress.recipes.parts import PARTS, name_of, place_of
from tasm.compress.recipes.recipe import Part
from tasm.compress.recipes.table import RECIPES, find_recipe
from tasm.errors import RecipeError

OLD = Path(__file__).parents[1] / "memory" / "old"


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_called_after_its_class(name: str) -> None:
    part = Part(name)
    assert part.find().__name__ == part.class_name
    assert name_of(part.class_name) == part.name == name


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_what_is_stored_has_no_place(name: str) -> None:
    stored = find_recipe(name).to_json()
    assert ":" not in json.dumps([stored[kind] and stored[kind]["part"] for kind in KINDS])
    assert "tasm." not in json.dumps(stored)


KINDS = ("scorer", "budget", "reducer")


@pytest.mark.parametrize("memory", sorted(OLD.glob("*.tasm")), ids=lambda path: path.stem)
def test_parts_of_old_memories_are_known_by_name(memory: Path) -> None:
    recipe = json.loads((memory / "memory.json").read_text(encoding="utf-8"))["recipe"]
    now = find_recipe(recipe["name"]).to_json()
    for kind in KINDS:
        assert recipe[kind]["part"].startswith("tasm.build.")
        assert name_of(recipe[kind]["part"]) == now[kind]["part"]


def test_a_part_of_another_package_is_called_after_its_class() -> None:
    part = Part("tests.compress.outside:LargeKeys", {"sign": -1.0})
    assert part.to_json() == {"part": "large-keys", "settings": {"sign": -1.0}}
    assert place_of("drop") == "tasm.compress.parts.reducers.drop:Drop"


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("nyeman", "no part 'nyeman'. Did you mean 'neyman'"),
        ("somewhere.else:Neyman", "would be stored as 'neyman'"),
        ("", "no part ''"),
    ],
)
def test_a_part_there_is_not(part: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        Part(part)


@pytest.mark.parametrize("part", ["no.such_module:Thing", "tests.compress.outside:Thing"])
def test_a_class_that_is_not_there(part: str) -> None:
    with pytest.raises(RecipeError, match="cannot be imported"):
        Part(part).make()
