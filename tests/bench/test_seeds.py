"""An episode's seed reaches the build, and tells rows apart."""

from typing import Any

from tasm.bench import measure
from tasm.bench.accuracy import Plan, _units
from tasm.bench.cells import Cell
from tasm.bench.sources import FileSource, read_episode


def test_the_seed_of_an_episode_is_the_seed_of_its_builds(
    backbone: Any, files: Any, monkeypatch: Any
) -> None:
    built = []
    build = measure.Encoded.build

    def listen(self: Any, recipe: Any, **settings: Any) -> Any:
        memory = build(self, recipe, **settings)
        if recipe.name == "random":
            built.append(memory)
        return memory

    monkeypatch.setattr(measure.Encoded, "build", listen)
    episode = read_episode(files / "demos.jsonl", files / "queries.jsonl")
    cell = Cell("random", "20%", None)
    for seed in (3, 4, 3):
        measure.Examination(backbone, episode, [cell], seed=seed).measure(cell)
    assert [memory.recipe["settings"]["seed"] for memory in built] == [3, 4, 3]
    first, other, again = (
        [sorted(row) for layer in memory.core for row in layer.index.tolist()] for memory in built
    )
    assert first == again and first != other


def test_seeds_make_rows_of_their_own(backbone: Any, files: Any) -> None:
    source = FileSource(files / "demos.jsonl", files / "queries.jsonl")
    plan = Plan(model="", cells=[Cell("random", "20%", None)], sources=[source], seeds=[0, 1])
    first, second = _units(plan, backbone)
    assert set(first.cells).isdisjoint(second.cells)
