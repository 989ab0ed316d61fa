"""`tasm build --mode streaming`: the same as of a list, broken off, killed and gone on."""

import json
import signal
from pathlib import Path

import pytest

import tasm
from tasm.compress.streams.unfinished import Unfinished
from tasm.demonstrations import read_demonstrations
from tests.cli.conftest import Run, draw, write_rows
from tests.own_process import run_python

COLOURS = ["red", "green", "blue", "orange", "purple", "black", "gray", "brown"]
ASK = ("--mode", "streaming", "--core", "40", "--bank", "10", "--chunk-tokens", "40")

ONE_STATE_A_CHUNK = """
import sys
import tasm.compress.streams.arriving
from tasm.cli.app import app
from tasm.compress.streams.streaming import Stream
from tasm.compress.streams.unfinished import Unfinished

tasm.compress.streams.arriving.TOGETHER = 2
Unfinished.note = Unfinished.write
reads, stop = Stream.read, int(sys.argv[1])

def read(self, chunk):
    if len(self.entries) >= stop:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    reads(self, chunk)

Stream.read = read
app(sys.argv[2:], prog_name="tasm")
"""


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    rows = []
    for number in range(12):
        name = f"{number}.png"
        draw(tmp_path / name, COLOURS[number % 8], (56, 56 + 4 * number))
        rows.append({"image": name, "question": "Which colour?", "answer": COLOURS[number % 8]})
    return write_rows(tmp_path / "demos.jsonl", rows)


def files_of(memory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(memory)): path.read_bytes()
        for path in memory.rglob("*")
        if path.is_file()
    }


def test_a_file_is_streamed_as_a_list_is(
    run: Run, demos: Path, model: Path, tmp_path: Path
) -> None:
    ran = run("build", demos, "--model", model, "--out", tmp_path / "m.tasm", *ASK, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["demonstrations"] == 12 and ran.json["mode"] == "streaming"
    rows = read_demonstrations(demos)
    loaded = tasm.load_model(str(model))
    given = {"mode": "streaming", "core": "40", "bank": "10", "chunk_tokens": 40, "notice": None}
    listed = tasm.build(loaded, rows, **given)  # type: ignore[arg-type]
    listed.save(tmp_path / "listed.tasm")
    streamed, listed_files = files_of(tmp_path / "m.tasm"), files_of(tmp_path / "listed.tasm")
    for name in listed_files:
        if name != "memory.json":
            assert streamed[name] == listed_files[name]
    pictures = {name for name in streamed if name.startswith("pictures")}
    assert len(pictures) == 12
    assert sorted(path.name for path in tmp_path.iterdir() if "tasm" in path.name) == [
        "listed.tasm",
        "m.tasm",
    ]


def test_bad_rows_are_all_named_before_anything_is_built(
    run: Run, demos: Path, model: Path, tmp_path: Path
) -> None:
    with demos.open("a") as file:
        file.write('{"image": "no.png", "question": "Which?", "answer": "a"}\n{"question": 3}\n')
    ran = run("build", demos, "--model", model, "--out", tmp_path / "m.tasm", *ASK)
    assert ran.code == 2
    assert "line 13" in ran.err and "line 14" in ran.err
    assert not list(tmp_path.glob("m.tasm*"))
    ran = run(
        "build", demos, "--model", model, "--out", tmp_path / "m.tasm", *ASK, "--skip-bad-rows"
    )
    assert ran.code == 0, ran.err
    assert "2 of 14 rows" in ran.err


def test_killed_and_gone_on(run: Run, demos: Path, model: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.tasm", tmp_path / "m.tasm"
    assert run("build", demos, "--model", model, "--out", whole, *ASK).code == 0
    command = ["build", str(demos), "--model", str(model), "--out", str(out), *ASK]
    for stop, more in ((4, []), (8, ["--resume"])):
        code, printed = run_python(ONE_STATE_A_CHUNK, tmp_path, [str(stop), *command, *more])
        assert code == -signal.SIGKILL, printed
        assert (tmp_path / "m.tasm.unfinished").is_dir() and not out.exists()
    ran = run(*command)
    assert ran.code == 2
    assert "m.tasm.unfinished. Go on with it (--resume), or delete that folder" in ran.err
    ran = run(*command, "--resume", "--recipe", "recent")
    assert ran.code == 2 and "has another" in ran.err and "than this one" in ran.err
    ran = run(*command, "--resume")
    assert ran.code == 0, ran.err
    assert "Going on after" in ran.err
    assert files_of(out) == files_of(whole)
    assert not list(tmp_path.glob("*.unfinished"))


def test_interrupted_it_says_how_to_go_on(
    run: Run, demos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(self: Unfinished, stream: object, settings: object) -> None:
        self.write(stream, settings)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(Unfinished, "note", note)
    ran = run("build", demos, "--model", model, "--out", tmp_path / "m.tasm", *ASK)
    assert ran.code == 130
    assert "m.tasm.unfinished: go on with --resume." in ran.err
    monkeypatch.undo()
    ran = run("build", demos, "--model", model, "--out", tmp_path / "m.tasm", *ASK, "--resume")
    assert ran.code == 0, ran.err


def test_resuming_means_streaming(run: Run, demos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.tasm"
    ran = run("build", demos, "--model", model, "--out", out, "--resume")
    assert ran.code == 2 and "--resume has no effect with --mode joint" in ran.err
    ran = run("build", demos, "--model", model, *ASK, "--plan", "--resume")
    assert ran.code == 2 and "--resume has no effect with --plan" in ran.err
    ran = run("build", demos, "--model", model, "--out", out, *ASK, "--resume")
    assert ran.code == 0 and "There is no unfinished build" in ran.err


def test_a_short_model_streams_on(run: Run, demos: Path, model: Path, tmp_path: Path) -> None:
    import shutil

    short = tmp_path / "short"
    shutil.copytree(model, short)
    config = json.loads((short / "config.json").read_text())
    for part in (config, config.get("text_config", {})):
        if "max_position_embeddings" in part:
            part["max_position_embeddings"] = 150
    (short / "config.json").write_text(json.dumps(config))
    out = tmp_path / "m.tasm"
    ran = run("build", demos, "--model", short, "--out", out, *ASK)
    assert ran.code == 0, ran.err
    assert "packed closer" in ran.err
    noted = json.loads((out / "memory.json").read_text())["recipe"]["notes"]["positions"]
    assert noted["taken"] > 150
    assert run("ask", out, "--question", "Which colour?").code == 0
