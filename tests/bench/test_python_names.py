"""`tasm.verify`, `rebuild`, `recipes`, `models`, `plan`: what the commands do, from Python."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import tasm
from tests.answer.conftest import demonstrations
from tests.own_process import run_python
from tests.tiny_folders import tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder("qwen2_vl", tmp_path_factory.mktemp("m") / "qwen2_vl")


@pytest.fixture(scope="module")
def model(folder: Path) -> tasm.Model:
    return tasm.load_model(folder)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Rows whose pictures lie in files."""
    place = tmp_path_factory.mktemp("pictures")
    found = []
    for number, one in enumerate(demonstrations()):
        one.pictures[0].load().save(place / f"{number}.png")
        found.append(
            {"image": str(place / f"{number}.png"), "question": "Which?", "answer": one.answer}
        )
    return found


@pytest.fixture(scope="module")
def saved(model: tasm.Model, rows: list[dict[str, str]], tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("memories") / "colours.tasm"
    tasm.build(model, rows, core="40%", seed=5).save(place)
    return place


def test_verify_by_path(saved: Path) -> None:
    """Model and demonstrations are found where the memory recorded them."""
    found = tasm.verify(saved)
    assert found.holds and found.complaint is None
    assert (found.intact, found.model_matches) == (True, True)
    assert (found.queries, found.queries_from) == (6, "demonstrations")
    assert found.agreement is not None and found.mean_js is not None
    assert "complaint" not in found.to_json()


def test_verify_with_what_is_given(saved: Path, model: tasm.Model, rows, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    found = tasm.verify(
        tasm.load(saved),
        model,
        queries=[{"question": "Which?"}, {"question": "And now?", "answer": "red"}],
        demonstrations=iter(rows),
        progress=lambda *step: steps.append(step),
    )
    assert (found.queries, found.queries_from) == (2, "queries")
    assert steps
    short = tasm.verify(saved, model, queries=rows[:2], min_agreement=0)
    assert short.holds and short.agreement is not None


def test_what_does_not_hold_is_a_finding(saved: Path, model: tasm.Model, tmp_path: Path) -> None:
    other = tasm.load_model(tiny_folder("qwen2_vl", tmp_path / "other", seed=9))
    found = tasm.verify(saved, other)
    assert (found.intact, found.model_matches, found.holds) == (True, False, False)
    assert "another model" in str(found.complaint)
    import shutil

    shutil.copytree(saved, tmp_path / "damaged.tasm")
    core = next((tmp_path / "damaged.tasm").glob("core-*"))
    content = bytearray(core.read_bytes())
    content[-3] ^= 1
    core.write_bytes(content)
    damaged = tasm.verify(tmp_path / "damaged.tasm", model)
    assert (damaged.intact, damaged.model_matches) == (False, None)
    assert core.name in str(damaged.complaint)


def test_too_little_agreement(model: tasm.Model, rows) -> None:
    small = tasm.build(model, rows, core="30%", recipe="random")
    found = tasm.verify(small, model)
    assert found.agreement is not None
    if found.agreement < 1:
        assert "Agreement is" in str(tasm.verify(small, model, min_agreement=1).complaint)
    said: list[str] = []
    nothing = tasm.build(model, demonstrations(), core="40%")  # pictures in memory: not found again
    unknown = tasm.verify(nothing, model, queries=rows[:1], min_agreement=0.5, notice=said.append)
    assert "could not be checked" in str(unknown.complaint)
    assert "demonstrations=" in said[0]


def test_rebuild_on_another_model(saved: Path, rows, tmp_path: Path) -> None:
    other = tiny_folder("qwen2_vl", tmp_path / "other", seed=9)
    again = tasm.rebuild(saved, str(other))
    old = tasm.load(saved)
    assert again.identity.differences(old.identity)
    assert again.recipe["settings"] == old.recipe["settings"]
    assert [one.content_hash for one in again.demonstrations] == [
        one.content_hash for one in old.demonstrations
    ]
    given = tasm.rebuild(saved, str(other), list(reversed(rows)))
    assert [one.id for one in given.demonstrations] == [one.id for one in again.demonstrations]
    with pytest.raises(tasm.TasmError, match="1 of 6 are missing"):
        tasm.rebuild(saved, str(other), rows[1:])


def test_rebuild_says_where_a_recipe_has_changed(model: tasm.Model, rows) -> None:
    from tasm.compress.recipes.table import find_recipe

    odd = find_recipe("tasm").with_settings(gate={"top_k": 3})
    memory = tasm.build(model, rows, recipe=odd, core="40%")
    said: list[str] = []
    tasm.rebuild(memory, model, rows, notice=said.append)
    assert any("differs" in sentence and "gate" in sentence for sentence in said)
    said.clear()
    tasm.rebuild(tasm.build(model, rows, core="40%"), model, rows, notice=said.append)
    assert not any("differs" in sentence for sentence in said)


def test_listings() -> None:
    recipes = {row["name"]: row for row in tasm.recipes()}
    assert recipes["tasm"]["scorer"] == "TaskScorer" and recipes["zero-shot"]["kind"] == "prompt"
    models = tasm.models()
    assert models["bundled"][0]["name"] == "reference"
    assert "qwen2_vl" in {family["name"] for family in models["families"]}
    models["bundled"].clear()
    assert tasm.models()["bundled"]  # what is given out is the caller's


def test_build_and_plan_take_the_same(model: tasm.Model) -> None:
    from tasm.compress.api import build

    taken, planned = (list(inspect.signature(one).parameters) for one in (build, tasm.plan))
    unplanned = ("checkpoint", "progress")
    assert [name for name in taken if name not in unplanned] == planned


def test_build_is_a_plain_function_with_help() -> None:
    program = (
        "import inspect, tasm; assert inspect.isfunction(tasm.build), tasm.build;"
        "print(list(inspect.signature(tasm.build).parameters)); help(tasm.build)"
    )
    code, printed = run_python(program, Path())
    assert code == 0, printed
    for name in ("question", "skip_bad_rows", "core", "demonstrations: a file or folder"):
        assert name in printed


def test_listings_need_no_torch() -> None:
    code = "import sys, tasm; tasm.recipes(); tasm.models(); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
