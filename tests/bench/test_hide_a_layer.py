"""benchmarks/hide_a_layer.py: one layer of the bundled model is where things are looked up."""

import sys
from importlib import import_module
from pathlib import Path

import pytest


def test_some_layer_cannot_be_done_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    monkeypatch.delitem(sys.modules, "hide_a_layer", raising=False)
    import_module("hide_a_layer").main(["--suites", "needle@8", "--seeds", "1", "--queries", "20"])
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()]
    assert [cell.strip() for cell in rows[0]] == ["hidden in layer", "needle@8"]
    found = {name.strip(): float(accuracy) for name, accuracy in rows[2:]}
    assert [*found] == ["none", "0", "1", "2", "3", "4", "5"]
    assert found["none"] > 0.8
    assert min(found.values()) < 0.4
