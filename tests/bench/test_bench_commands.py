"""`tasm bench` as a person types it, on a tiny random model."""

import json

import pytest

from tests.bench.test_results import DOCUMENTED


@pytest.fixture
def run(capsys):
    def call(*arguments):
        from tasm.cli.app import app

        capsys.readouterr()
        code = 0
        try:
            app([str(argument) for argument in arguments], prog_name="tasm")
        except SystemExit as left:
            code = int(left.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


def own(model_folder, files, out, *more):
    return (
        "bench",
        "accuracy",
        "--model",
        model_folder,
        "--demonstrations",
        files / "demos.jsonl",
        "--queries",
        files / "queries.jsonl",
        "--workers",
        1,
        "--out",
        out,
        *more,
    )


def test_accuracy_prints_the_documented_document(run, model_folder, files, tmp_path):
    arguments = own(model_folder, files, tmp_path / "out", "--recipes", "full,random")
    code, out, _ = run(*arguments, "--core", "50%", "--json")
    assert code == 0
    document = json.loads(out)
    assert list(document) == ["model", "rows"] and document["model"] == str(model_folder)
    assert [row["recipe"] for row in document["rows"]] == ["full", "random"]
    assert all(list(row) == DOCUMENTED for row in document["rows"])
    assert document["rows"][0]["core"] is None and document["rows"][1]["core"] == "50%"
    for name in ("rows.jsonl", "leaderboard.md", "report.html"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    code, text, _ = run(*arguments, "--core", "50%")
    assert code == 0 and "random" in text and "leaderboard.md" in text


def test_a_refused_budget_is_said_and_the_rest_is_there(run, model_folder, files, tmp_path):
    arguments = own(model_folder, files, tmp_path / "out", "--recipes", "random", "--json")
    code, out, err = run(*arguments, "--core", "50%,0%")
    assert code == 1 and "random at 0%" in err
    assert [row["core"] for row in json.loads(out)["rows"]] == ["50%"]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--suites", "bind"), "Give either --suites"),
        (("--recipes", "tsam"), "Did you mean 'tasm'"),
        (("--core", "300%"), "300%"),
    ],
)
def test_bad_usage_is_a_sentence(run, model_folder, files, tmp_path, more, sentence):
    code, _, err = run(*own(model_folder, files, tmp_path / "out", *more))
    assert code != 0 and sentence in err


def test_suites_take_a_number_of_queries(run, model_folder, tmp_path):
    arguments = ("bench", "accuracy", "--model", model_folder, "--out", tmp_path / "out")
    code, _, err = run(*arguments, "--suites", "bind", "--queries", "file.jsonl")
    assert code == 2 and "number of queries" in err
    code, _, err = run(*arguments, "--suites", "bind", "--split", "test")
    assert code == 2 and "held-out or train" in err


def test_speed_prints_machine_and_rows(run, model_folder, monkeypatch, tmp_path):
    from tasm.bench.speed import run as speed

    monkeypatch.setitem(speed.MEASURES, "decode_growth", lambda bench: 1.05)
    monkeypatch.setitem(speed.MEASURES, "gate_over_decode", lambda bench: 0.5)
    arguments = ("bench", "speed", "--model", model_folder, "--out", tmp_path / "speed")
    arguments += ("--rows", "gate_over_decode,decode_growth")
    code, out, err = run(*arguments, "--json")
    document = json.loads(out)
    assert code == 1 and list(document) == ["machine", "rows"]
    assert "1 limit is missed on this machine: gate_over_decode 0.500 (at most 0.1)." in err
    assert document["rows"] == [
        {
            "name": "decode_growth",
            "value": 1.05,
            "unit": "ratio",
            "against": "at most 1.1: decode step at core 512 and bank 1024, "
            "10x demonstrations / 1x",
        },
        {
            "name": "gate_over_decode",
            "value": 0.5,
            "unit": "ratio",
            "against": "at most 0.1: cost of the shut gate / decode step, gate never",
        },
    ]
    assert {"device", "dtype", "torch", "transformers", "threads"} <= set(document["machine"])
    written = (tmp_path / "speed" / "speed.md").read_text()
    assert "| 1.050 | ratio | at most 1.1 | yes | 0 s |" in written
    assert "| 0.500 | ratio | at most 0.1 | MISSED | 0 s |" in written
    code, out, _ = run("bench", "speed", "--quick", "--rows", "decode_growth", "--json")
    document = json.loads(out)
    assert code == 0 and document["machine"]["model"] == "random:qwen2_vl-tiny"
    assert document["rows"][0]["against"].startswith("reported: decode step")
    code, _, err = run(*arguments[:-1], "decode_grwth")
    assert code == 2 and "Did you mean 'decode_growth'" in err


def test_paper_says_which_data_is_missing(run, model_folder, tmp_path):
    arguments = ("bench", "paper", "--model", model_folder, "--data", tmp_path)
    code, _, err = run(*arguments, "--table", 2)
    assert code == 2 and "v-niah" in err
    code, _, err = run(*arguments, "--table", 4)
    assert code == 2 and "tables 1, 2, 3 and 5" in err
