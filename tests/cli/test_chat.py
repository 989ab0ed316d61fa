"""`tasm chat`: questions from standard input, pictures for the next one, wrong lines survived."""

import io
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def piped(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))


def test_each_line_is_answered_as_ask_would(
    run: Run, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ("ask", built / "memory.tasm", "--question", "What colour?")
    alone = run(*ask).out.strip()
    seen = run(*ask, "--image", built / "new.png").out.strip()
    piped(monkeypatch, "What colour?", "", f"/image '{built / 'new.png'}'", "What colour?",
          "What colour?", "/quit", "never asked")  # fmt: skip
    ran = run("chat", built / "memory.tasm")
    assert ran.code == 0, ran.err
    assert ran.out.strip().splitlines() == [
        *alone.splitlines(), *seen.splitlines(), *alone.splitlines()
    ]  # fmt: skip


def test_a_wrong_line_does_not_end_it(
    run: Run, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(monkeypatch, "/image nowhere.png", "/nothing", "/image 'open", "<image>", "What colour?")
    ran = run("chat", built / "memory.tasm", "--labels", "red,blue", "--json")
    assert ran.code == 2
    assert ran.err.count("Error:") == 4
    assert "nowhere.png: there is no such file" in ran.err and "There is no /nothing" in ran.err
    assert [one["question"] for one in ran.json["answers"]] == ["What colour?"]
    assert ran.json["failed"] == 4
    assert ran.json["answers"][0]["answer"] in ("red", "blue")


def test_labels_and_explanations(run: Run, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, "What colour?", "/explain", "What colour?")
    ran = run("chat", built / "memory.tasm", "--top", "2")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert len(lines) == 2 + 2 + 7  # names, five shares and how many more
    assert lines[:2] == lines[2:4]


def test_build_core_auto(run: Run, built: Path, model: Path, tmp_path: Path) -> None:
    build = ("build", built / "demos.jsonl", "--model", model, "--core", "auto")
    for more, said in (
        (("--mode", "streaming", "--out", tmp_path / "x"), "no meaning with --mode streaming"),
        (("--plan",), "no meaning with --plan"),
        (("--recipe", "full", "--out", tmp_path / "x"), "takes no core budget"),
    ):
        ran = run(*build, *more)
        assert ran.code == 2 and said in ran.err
    tuned = run("tune", built / "demos.jsonl", "--model", model, "--recipe", "h2o", "--json").json
    ran = run(*build, "--recipe", "h2o", "--out", tmp_path / "m.tasm", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["core_bytes"] == next(
        one["core_bytes"] for one in tuned["evaluations"] if one["core"] == tuned["core"]
    )
    assert tuned["why"] in ran.err
