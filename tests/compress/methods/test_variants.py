"""TASM's ablations: each is `tasm` but for what its name says."""

from dataclasses import replace
from itertools import pairwise

from tasm.compress.recipes.table import VARIANTS, all_recipes, find_recipe

TASM = replace(find_recipe("tasm"), others=())  # ablations try nothing


def changed(name: str) -> set[str]:
    """What a variant does not share with tasm."""
    row = find_recipe(name)
    same = replace(row, name=TASM.name, title=TASM.title)
    ours, theirs = TASM.to_json(), same.to_json()
    return {key for key in ours if ours[key] != theirs[key]}


def test_steps_of_table_3_add_one_part_each() -> None:
    steps = ["hard-pruning", "task-vector", "merging", "even-layers", "spatial-merging"]
    rows = [*(find_recipe(f"tasm-{step}").to_json() for step in steps), TASM.to_json()]
    added = [
        {key for key in after if key != "name" and before[key] != after[key]}
        for before, after in pairwise(rows)
    ]
    assert added == [{"scorer"}, {"reducer"}, {"bank", "gate"}, {"budget"}, {"reducer"}]
    first = find_recipe("tasm-hard-pruning").scorer
    assert first is not None and first.settings["task_share"] == 0


def test_the_others_change_one_part() -> None:
    for name in (
        *(f"tasm-share-{share}" for share in ("0", "0.1", "0.3", "0.5", "0.7", "1")),
        "tasm-random-direction",
        "tasm-transferred-direction",
    ):
        assert changed(name) == {"scorer"}
    for policy in ("never", "always", "every-10", "every-50"):
        assert changed(f"tasm-retrieval-{policy}") == {"gate"}


def test_listed_last() -> None:
    names = [row.name for row in VARIANTS]
    assert [*all_recipes()][-len(names) :] == names
