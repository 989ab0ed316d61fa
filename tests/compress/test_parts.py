"""Parts of recipes by name: what is stored of them, and where their classes are found."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from tasm.compress.parts.base import Budget, Parts, Reducer, Scorer
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


def make(kind: type, **names: object) -> type:
    return type("Mine", (kind,), {"__doc__": "", **names})


@pytest.mark.parametrize(
    ("kind", "names", "sentence"),
    [
        (Scorer, {"score": print, "record": ()}, "Mine.record: a Scorer has no 'record'. Did you"),
        (Scorer, {"scoer": print}, "has no 'scoer'. Did you mean 'score'"),
        (Scorer, {"score": print, "allocate_bank": print}, "a Scorer has no 'allocate_bank'"),
        (Scorer, {"score": print, "sourcelayer": print}, "Did you mean 'source_layer'"),
        (Budget, {"allocate": print, "read_again": True}, "Did you mean 'reads_again'"),
        (Budget, {"allocate": print, "source_layer": ()}, "a Budget has no 'source_layer'"),
        (Reducer, {"reduce": print, "wishes": print}, "begins with an underscore"),
        (Reducer, {}, "Mine has no method 'reduce'"),
        (Scorer, {"records": ()}, "Mine has no method 'score'"),
        (
            Scorer,
            {"score": print, "replay": (), "__annotations__": {"replay": tuple}},
            "Mine.replay: a Scorer has no 'replay'",
        ),
    ],
)
def test_a_misspelt_name_fails_at_once(kind: type, names: dict[str, object], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        make(kind, **names)


def test_what_a_part_is_unless_it_says_otherwise() -> None:
    class Plain(Scorer):
        def score(self, evidence: object) -> torch.Tensor:  # type: ignore[override]
            return torch.zeros(1)

    @dataclass(frozen=True)
    class Even(Budget):
        power: float = 1.0
        reads_again = True

        def allocate(self, stage: object) -> list[torch.Tensor | None]:  # type: ignore[override]
            return []

    assert (Plain().records, Plain().replayed, Plain().source_layer(3, 9)) == ((), (), 3)
    assert (Even().reads_again, Even(2.0).power, Even().records) == (True, 2.0, ())
    counts = [torch.tensor([3, 5]), None]
    banked = Even().allocate_bank(None, counts, 7)  # type: ignore[arg-type]
    assert banked[0] is not None and banked[0].tolist() == [7, 7] and banked[1] is None


def test_a_part_of_another_kind() -> None:
    recipe = replace(find_recipe("random"), scorer=Part("drop"))
    with pytest.raises(RecipeError, match="is a Drop, which is no Scorer"):
        Parts.of(recipe)
