"""`tasm tune`: the document, what is written, and refusals."""

from pathlib import Path

import pytest

import tasm
from tests.cli.conftest import Run


def test_tune_writes_a_memory_and_a_curve(
    run: Run, built: Path, model: Path, tmp_path: Path
) -> None:
    out, plot = tmp_path / "m.tasm", tmp_path / "m.svg"
    tune = ("tune", built / "demos.jsonl", "--model", model, "--recipe", "h2o,recent")
    ran = run(*tune, "--out", out, "--plot", plot, "--target-agreement", "0.5", "--json")
    assert ran.code == 0, ran.err
    document = ran.json
    assert document["memory"] == str(out)
    assert document["agreement"] >= 0.5
    assert {one["recipe"] for one in document["evaluations"]} == {"h2o", "recent"}
    assert tasm.load(out).recipe["name"] == document["recipe"]
    assert plot.read_text().startswith("<svg")
    ask = ("ask", out, "--question", "What colour?", "--top", "2")
    assert run(*ask, "--calibration", "demonstrations").code == 0
    assert run(*tune, "--out", out).code == 2  # is there already


def test_folds_say_how_good_it_will_be(run: Run, built: Path, model: Path) -> None:
    ran = run("tune", built / "demos.jsonl", "--model", model, "--recipe", "h2o", "--folds", "2")
    assert ran.code == 0, ran.err
    assert "with 95 % confidence" in ran.out and "read without it" in ran.out
    assert "was answered with" in ran.out


def test_a_target_that_is_missed_is_said(
    run: Run, built: Path, model: Path, tmp_path: Path
) -> None:
    tune = ("tune", built / "demos.jsonl", "--model", model, "--recipe", "recent")
    ran = run(*tune, "--target-accuracy", "1", "--out", tmp_path / "m.tasm", "--json")
    assert ran.code == 1
    assert ran.json["memory"] is None and not (tmp_path / "m.tasm").exists()
    assert "Nothing reaches accuracy 1" in ran.err


def test_where_no_core_fits_that_is_said_and_no_empty_curve_written(
    run: Run, built: Path, model: Path, tmp_path: Path
) -> None:
    tune = ("tune", built / "demos.jsonl", "--model", model, "--recipe", "recent")
    ran = run(*tune, "--max-bytes", "1kB", "--plot", tmp_path / "c.svg")
    assert ran.code == 1
    assert "Nothing reaches at most 1kB: no core fits; all demonstrations reach" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--overwrite",), "--overwrite has no effect"),
        (("--folds", "99"), "expected at least 99"),
        (("--recipe", "tsam"), "There is no recipe"),
        (("--max-bytes", "12"), "expected bytes"),
    ],
)
def test_refusals(options: tuple[str, ...], said: str, run: Run, built: Path, model: Path) -> None:
    ran = run("tune", built / "demos.jsonl", "--model", model, *options)
    assert ran.code == 2
    assert said in ran.err
