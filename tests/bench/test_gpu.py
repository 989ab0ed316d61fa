"""The script for a CUDA device, run small on a CPU: every part of it but what only CUDA has."""

import json
from pathlib import Path

import pytest
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import gpu


def test_every_figure_is_measured_and_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "ROWS", 4)
    monkeypatch.setattr(gpu, "SHARED", 64)
    monkeypatch.setattr(gpu, "STEPS", 2)
    given = ["--device", "cpu", "--dtype", "float32", "--model", "qwen2_vl-tiny"]
    given += ["--lengths", "300", "--banks", "200", "--recipes", "compact,tasm"]
    gpu.main([*given, "--no-matrix", "--no-graph", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row for row in rows if "failed" in row] == []
    counted = {row["name"]: row["operations"] for row in rows if "operations" in row}
    assert len(counted) == 5 and len(rows) == 20
    step, beside = (
        counted["counted: decode step, full"],
        counted["counted: decode step, memory 20 %"],
    )
    assert 50 < step < 2 * beside < counted["counted: prefill, stock cache"] * 2 < 4000
    builds = [counted[f"counted: build, {recipe}"] for recipe in ("compact", "tasm")]
    assert min(builds) > 2 * counted["counted: prefill, stock cache"]
    told = capsys.readouterr().out
    assert "| build, tasm | 300 | " in told and f"| {step:,} | – | – |" in told


def test_what_a_profiler_saw_on_a_device_is_counted_and_what_is_marked_is_not() -> None:
    matrix = torch.ones(256, 256)
    with profile(activities=[ProfilerActivity.CPU]) as seen, record_function("several"):
        for _ in range(3):
            matrix = matrix.add(1.0)
    names = [one.name for one in seen.events() or ()]
    assert names.count("aten::add") == 3 and names.count("several") == 1
    found = gpu._seen_on(DeviceType.CPU, seen)
    assert found["launches"] == len(names) - 1 and 0 < found["device_milliseconds"] < 1000
    assert gpu._seen_on(DeviceType.CUDA, seen) == {"launches": 0, "device_milliseconds": 0.0}
