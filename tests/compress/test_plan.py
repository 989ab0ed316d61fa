"""A plan's peak against the peak of a real build, measured by the kernel."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tasm
from tests.tiny_folders import tiny_folder

_MEASURED = """
import json, random, sys
from PIL import Image
import tasm

name, side, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
model = tasm.load_model(name)
rows = tasm.read_demonstrations([
    {
        "image": Image.effect_noise((side, side), 50 + number).convert("RGB"),
        "question": f"What is it, {number}?",
        "answer": random.Random(number).choice(["red", "green"]),
    }
    for number in range(count)
])
planned = tasm.plan(model, rows)["peak_memory_bytes"]
report = tasm.build(model, rows).report
print("found", json.dumps([planned, report["peak_memory_bytes"]]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tasm.load_model(str(tiny_folder("qwen2_vl", tmp_path_factory.mktemp("models") / "tiny")))


@pytest.mark.parametrize("mode", ["joint", "streaming", "independent"])
@pytest.mark.parametrize(
    ("recipe", "core", "bank"),
    [("tasm-even-layers", "20%", "40%"), ("snapkv", "150kB", "64")],
)
def test_tokens_and_bytes_are_those_of_the_build(
    model: Any, recipe: str, core: str, bank: str, mode: Any
) -> None:
    rows = [
        {"question": f"What is it, number {number}?", "answer": "red " * (1 + number % 3)}
        for number in range(12)
    ]
    given: dict[str, Any] = {"recipe": recipe, "core": core, "bank": bank, "mode": mode}
    planned = tasm.plan(model, rows, **given)
    report = tasm.build(model, rows, **given).report
    names = ("tokens", "core_tokens", "bank_tokens", "full_bytes", "core_bytes", "bank_bytes")
    assert {name: planned[name] for name in names} == {name: report[name] for name in names}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel keeps no mark")
@pytest.mark.parametrize(("name", "side", "count"), [("tiny", 56, 80), ("reference", 112, 90)])
def test_the_peak_is_what_a_build_takes(name: str, side: int, count: int, tmp_path: Path) -> None:
    if name == "tiny":
        name = str(tiny_folder("qwen2_vl", tmp_path / "tiny"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _MEASURED, name, str(side), str(count)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("found "))
    planned, peak = json.loads(line.removeprefix("found "))
    assert 1 / 1.6 < planned / peak < 1.6, (planned, peak)
