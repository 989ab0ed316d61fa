"""Memories that version 0.2.0 wrote, kept for ever: they open unchanged, answer as they did, are
written again as the same bytes, and can still be changed."""

import json
from pathlib import Path

import pytest
import torch

import tasm

HERE = Path(__file__).parent
KEPT = HERE / "kept"
BIND = HERE / "old" / "bind"
EXPECTED = json.loads((KEPT / "expected.json").read_text())


@pytest.fixture(scope="module")
def model():
    return tasm.load_model("reference")


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_kept_memory_answers_as_it_did(name, model, recwarn):
    memory = tasm.load(KEPT / f"{name}.tasm")
    memory.check_all()
    assert not recwarn.list
    texts, logits = EXPECTED[name]
    queries = tasm.read_queries(BIND / "queries.jsonl")
    assert [answer.text for answer in model.ask_all(memory, queries)] == texts
    images = [str(BIND / "images" / "q0000.png")]
    inputs = model.inputs(memory, images=images, question="<image> called")
    for gate, right in logits.items():
        with torch.no_grad():
            cache = memory.cache(dtype=torch.float32, gate=gate)
            now = model.hf(**inputs, past_key_values=cache).logits[0, -1, :16]
        assert torch.allclose(now, torch.tensor(right), atol=2e-4)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_kept_memory_is_written_again_as_the_same_files(name, tmp_path):
    folder = KEPT / f"{name}.tasm"
    tasm.load(folder).save(tmp_path / "new.tasm")
    for path in folder.glob("*.safetensors"):
        assert (tmp_path / "new.tasm" / path.name).read_bytes() == path.read_bytes()


def test_a_kept_memory_can_still_be_changed(model):
    memory = tasm.load(KEPT / "changed.tasm")
    more = tasm.add(memory, model, BIND / "demonstrations.jsonl", notice=None)
    assert len(memory.demonstrations) == 5 and len(more.demonstrations) == 6
    less = tasm.remove(more, model, [more.demonstrations[-1].id], notice=None)
    for one, other in zip(less.core, memory.core, strict=True):
        assert one is not None and other is not None
        assert torch.equal(one.index, other.index) and torch.equal(one.values, other.values)
