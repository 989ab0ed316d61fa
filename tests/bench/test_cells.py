"""Which cells a leaderboard has, what own files are called, and a mean that is said once."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasm.bench.cells import Cell, expand
from tasm.bench.leaderboard import leaderboard
from tasm.bench.results import Row
from tasm.bench.sources import FileSource
from tasm.errors import BudgetError, InputError

ROW = Row(
    "key", "birds", 0, "tasm", "20%", "40%", 2, ("a", "b"), (1.0, 0.0), None, None,
    attended_tokens=20, context_tokens=100, core_bytes=20, bank_bytes=0, full_bytes=100,
    build_seconds=1.0, answer_ms=1.0, triggered=0.0,
)  # fmt: skip


def test_a_recipe_without_a_budget_is_one_cell() -> None:
    cells = expand(["full", "zero-shot", "emloc-paper", "recent"], ["20%", "5%"], None)
    assert cells == [
        Cell("full", None, None),
        Cell("zero-shot", None, None),
        Cell("emloc-paper", None, "0"),
        Cell("recent", "20%", "0"),
        Cell("recent", "5%", "0"),
    ]
    assert expand(["retrieve-demos"], ["20%"], "40%") == [Cell("retrieve-demos", "20%", "0")]


def test_bytes_are_a_budget_of_core_and_bank_together() -> None:
    cells = expand(["full", "tasm", "retrieve-demos"], [], None, ["20%", "5%"])
    assert cells == [
        Cell("full", None, None),
        Cell("tasm", None, None, "20%"),
        Cell("tasm", None, None, "5%"),
    ]
    assert cells[1].settings != cells[2].settings
    with pytest.raises(BudgetError, match="--bytes 512 is a number of tokens"):
        expand(["tasm"], [], None, ["512"])
    with pytest.raises(InputError, match="--bytes names '5%' twice"):
        expand(["tasm"], [], None, ["5%", "5%"])


def test_a_budget_is_read_before_anything_is_measured() -> None:
    with pytest.raises(BudgetError, match="'abc'"):
        expand(["tasm"], ["abc"], None)
    with pytest.raises(BudgetError, match="'many'"):
        expand(["tasm"], ["20%"], "many")
    with pytest.raises(InputError, match="'20%' twice"):
        expand(["tasm"], ["20%", "20%"], None)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("birds.jsonl", "birds"),
        ("photos/birds.jsonl", "birds"),
        ("birds/demonstrations.jsonl", "birds"),
        ("birds/train.csv", "birds"),
        ("birds/metadata.jsonl", "birds"),
        ("birds", "birds"),
        ("birds/", "birds"),
        ("other/../birds/train.jsonl", "birds"),
    ],
)
def test_own_files_are_called_after_what_says_something(path: str, label: str) -> None:
    assert FileSource(Path(path), Path("queries.jsonl")).label == label


def test_the_folder_one_is_in_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "birds").mkdir()
    monkeypatch.chdir(tmp_path / "birds")
    assert FileSource(Path("demonstrations.jsonl"), Path("q.jsonl")).label == "birds"
    assert FileSource(Path("."), Path("q.jsonl")).label == "birds"


def test_a_mean_over_one_suite_is_not_said_twice() -> None:
    one = leaderboard([ROW], "reference")
    assert "| recipe | budget | birds | tokens | bytes | seeds |" in one
    assert one.count("0.500 [") == 2  # one row in each of the two tables
    both = leaderboard([ROW, replace(ROW, suite="fish")], "reference")
    assert "| recipe | budget | mean | birds | fish | tokens | bytes | seeds |" in both
