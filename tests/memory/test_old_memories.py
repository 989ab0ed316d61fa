"""Memories that version 0.1.0 wrote: they open unchanged, are intact, and answer as they did."""

import json
from pathlib import Path

import pytest
import torch

import tasm

OLD = Path(__file__).parent / "old"
EXPECTED = json.loads((OLD / "expected.json").read_text())


@pytest.fixture(scope="module")
def model():
    return tasm.load_model("reference")


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_old_memory_opens_and_answers_as_it_did(name, model, recwarn):
    memory = tasm.load(OLD / f"{name}.tasm")
    memory.check_all()
    assert memory.report["seconds"]["total"] > 0  # as it was written, figures of the run included
    assert memory.recipe["scorer"]["part"].startswith("tasm.build.scorers.")
    assert not recwarn.list
    texts, logits = EXPECTED[name]
    queries = tasm.read_queries(OLD / "bind" / "queries.jsonl")
    assert [answer.text for answer in model.ask_all(memory, queries)] == texts
    images = [str(OLD / "bind" / "images" / "q0000.png")]
    inputs = model.inputs(memory, images=images, question="<image> called")
    for gate in ("never", "always"):  # the gate's own threshold may lie next to a query
        with torch.no_grad():
            cache = memory.cache(dtype=torch.float32, gate=gate)
            now = model.hf(**inputs, past_key_values=cache).logits[0, -1, :16]
        assert torch.allclose(now, torch.tensor(logits[gate]), atol=2e-4)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_old_memory_can_be_written_anew(name, tmp_path):
    old = tasm.load(OLD / f"{name}.tasm")
    old.save(tmp_path / "new.tasm")
    new = tasm.load(tmp_path / "new.tasm")
    new.check_all()
    assert [path.name for path in sorted((tmp_path / "new.tasm").glob("*.safetensors"))] == [
        path.name for path in sorted((OLD / f"{name}.tasm").glob("*.safetensors"))
    ]
    assert (new.recipe, new.gate) == (old.recipe, old.gate)
