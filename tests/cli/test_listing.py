"""`tasm recipes`, `models`, `suite`, `doctor`, and help."""

import json
from pathlib import Path

import pytest

import tasm
from tasm.backbone.checkpoint.random_models import RANDOM_MODELS
from tests.cli.conftest import Run

COMMANDS = (
    "build", "ask", "chat", "show", "verify", "tune", "rebuild", "add", "remove", "merge",
    "pack", "suite", "demo",
    "recipes", "models", "doctor",
    "bench",
)  # fmt: skip


def test_help_names_every_command_and_no_other(run: Run) -> None:
    ran = run("--help")
    assert ran.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in ran.out
    for later in ("serve",):
        assert later not in ran.out


BENCHES = ("bench accuracy", "bench speed", "bench paper")


@pytest.mark.parametrize("name", [*COMMANDS[:-1], *BENCHES])
def test_every_command_shows_an_example(name: str, run: Run) -> None:
    ran = run(*name.split(), "--help")
    assert ran.code == 0
    assert "Example" in ran.out
    assert f"\n    tasm {name}" in ran.out


def test_version(run: Run) -> None:
    assert run("--version").out == f"tasm {tasm.__version__}\n"


@pytest.mark.parametrize("words", [("biuld",), ("build",), ("ask", "m", "--imgae", "x")])
def test_wrong_usage_is_2(words: tuple[str, ...], run: Run) -> None:
    ran = run(*words)
    assert ran.code == 2
    assert "Error" in ran.err or "Usage" in ran.err


def test_recipes(run: Run) -> None:
    rows = run("recipes", "--json").json
    fields = {"name", "title", "year", "url", "kind", "scorer", "budget", "reducer", "gate", "form"}
    assert all(set(row) == fields for row in rows)
    by_name = {row["name"]: row for row in rows}
    assert {"tasm", "tasm-paper", "full", "zero-shot"} <= set(by_name)
    assert by_name["tasm"]["kind"] == "memory"
    assert by_name["zero-shot"]["kind"] == "prompt"
    assert "https://arxiv.org/abs/2606.11853" in run("recipes").out


def test_models(run: Run) -> None:
    document = run("models", "--json").json
    random = {f"random:{name}" for name in RANDOM_MODELS}
    assert {row["name"] for row in document["bundled"]} == {"reference", *random}
    assert {"qwen2_vl", "llava", "gemma3", "llama"} <= {row["name"] for row in document["families"]}
    assert "Qwen2.5-VL" in run("models").out


def test_a_suite_is_what_a_user_would_bring(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "bind"
    options = ("--ways", "3", "--demonstrations", "6", "--queries", "2", "--seed", "5")
    ran = run("suite", "bind", "--out", out, *options, "--json")
    assert ran.code == 0, ran.err
    assert set(ran.json) == {"demonstrations", "queries", "files"}
    files = [path for path in out.rglob("*") if path.is_file()]
    assert ran.json["files"] == len(files)
    assert len(tasm.read_demonstrations(out / "demonstrations.jsonl")) == 6
    assert all(query.answers for query in tasm.read_queries(out / "queries.jsonl"))
    again = run("suite", "bind", "--out", out, *options)
    assert again.code == 2
    assert "--overwrite" in again.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bnid",), "Did you mean 'bind'?"),
        (("bind", "--ways", "1"), "ways"),
        (("bind", "--ways", "999"), "ways"),
        (("needle", "--ways", "4"), "ways"),
        (("bind", "--split", "test"), "split"),
        (("bind", "--demonstrations", "0"), "demonstrations"),
    ],
)
def test_an_impossible_suite_is_refused(
    words: tuple[str, ...], said: str, run: Run, tmp_path: Path
) -> None:
    ran = run("suite", *words, "--out", tmp_path / "out", "--json")
    assert ran.code == 2, ran.err
    assert said in ran.err
    assert list(tmp_path.iterdir()) == []


def test_doctor_looks_around(run: Run, model: Path, tmp_path: Path) -> None:
    ran = run("doctor", "--model", model, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["versions"]["tasm"] == tasm.__version__
    assert ran.json["devices"][0]["name"] == "cpu"
    assert ran.json["model"]["family"] == "qwen2_vl"
    assert "transformers" in run("doctor").out
    (tmp_path / "empty").mkdir()
    ran = run("doctor", "--model", tmp_path / "empty", "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["model"]["works"] is False
    assert "config.json" in ran.err
    assert run("doctor", "--model", tmp_path / "empty").code == 1
