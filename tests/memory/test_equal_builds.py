"""Equal builds give equal folders, byte for byte: what differs from run to run is not written."""

from pathlib import Path

import pytest

import tasm
from tests.memory.test_files import listing

DEMONSTRATIONS = Path(__file__).parent / "old" / "bind" / "demonstrations.jsonl"


@pytest.fixture(scope="module")
def model():
    return tasm.load_model("reference")


@pytest.mark.parametrize("mode", ["joint", "streaming"])
@pytest.mark.parametrize("recipe", ["tasm", "tasm-paper", "emloc"])
def test_two_equal_builds_are_one_folder(model, tmp_path, recipe, mode):
    settings = {"recipe": recipe, "core": "30%", "mode": mode, "chunk_tokens": 60}
    for name in ("a.tasm", "b.tasm"):
        memory = tasm.build(model, DEMONSTRATIONS, **settings)
        assert memory.report["seconds"]["total"] > 0
        assert memory.report["peak_memory_bytes"] >= 0
        memory.save(tmp_path / name)
    first, second = listing(tmp_path / "a.tasm"), listing(tmp_path / "b.tasm")
    assert first == second
    assert any(name.startswith("bank-") for name in first) or recipe == "emloc"
    opened = tasm.load(tmp_path / "a.tasm")
    opened.check_all()
    kept = {n: value for n, value in memory.report.items() if n not in ("seconds",)}
    del kept["peak_memory_bytes"]
    assert opened.report == kept
