"""benchmarks/gates.py: the same memory asked with one gate after the other."""

import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    monkeypatch.delitem(sys.modules, "gates", raising=False)
    monkeypatch.setattr(sys, "argv", ["gates.py", *words])
    import_module("gates").main()


def test_every_gate_is_asked(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    files: Path,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    task = tmp_path / "colours-3"
    shutil.copytree(files, task)
    (task / "demos.jsonl").rename(task / "demonstrations.jsonl")
    given = ["--model", str(model_folder), "--files", str(task), "--core", "60%"]
    run(monkeypatch, *given, "--gates", "own,always,always::1:1,never,always:::99")
    cells = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert cells[0][2:] == ["colours", "mean", "opened", "read |"]
    found = {cell[1]: (float(cell[-2]), float(cell[-1].split()[0])) for cell in cells[2:]}
    assert found["always"] == (1.0, 1.0)
    assert found["never"] == found["always:::99"] == (0.0, 0.0)  # no layer 99 has a bank
    assert 0 < found["always::1:1"][0] < found["always::1:1"][1] < 1
    assert 0 <= found["own"][0] <= found["own"][1] <= 1


def test_what_has_no_effect_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--bytes", "10%")
    assert "--bytes has no effect" in capsys.readouterr().err
