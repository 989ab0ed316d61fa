"""benchmarks/tune_rivals.py: what is tried can be built, and no setting twice."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tasm.bench.sources import read_episode
from tasm.compress.encoded import Encoded
from tasm.compress.recipes.table import find_recipe

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def tuning() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return import_module("tune_rivals")
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_every_setting_is_built_and_answers(tuning: ModuleType, backbone: Any, files: Any) -> None:
    episode = read_episode(files / "demos.jsonl", files / "queries.jsonl")
    tried = tuning.grids() | tuning.emloc()
    recipes = [recipe for settings in tried.values() for recipe in settings]
    encoded = Encoded(backbone, episode.demonstrations, recipes)
    for recipe in recipes:
        memory = encoded.build(recipe, core="50%")
        assert 0 <= tuning.right(backbone, memory, episode.queries) <= 1


def test_the_published_setting_comes_first_and_none_twice(tuning: ModuleType) -> None:
    for name, settings in (tuning.grids() | tuning.emloc()).items():
        labels = [tuning.label(recipe) for recipe in settings]
        assert len(set(labels)) == len(labels)
        mine, published = settings[0].to_json(), find_recipe(name).to_json()
        for part in ("scorer", "budget", "reducer"):
            made = settings[0].parts[part].make()
            assert made == find_recipe(name).parts[part].make(), (name, part)
        assert mine["gate"] == published["gate"]
