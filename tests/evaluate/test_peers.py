"""The fine-tuned peers run, learn what they are shown, and leave the model as it was."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


@pytest.fixture
def adapters(monkeypatch):
    monkeypatch.syspath_prepend(str(PEERS))
    import adapters

    return adapters


@pytest.fixture
def demonstrations(files):
    from tasm.demonstrations import read_demonstrations

    return read_demonstrations(files / "demos.jsonl")


def weights(hf):
    return {name: tensor.clone() for name, tensor in hf.state_dict().items()}


def test_a_prefix_fits_its_bytes_and_learns(adapters, backbone, demonstrations):
    before = weights(backbone.hf)
    start = adapters.prefix_peer(backbone, demonstrations, 20_000, epochs=0)
    peer = adapters.prefix_peer(backbone, demonstrations, 20_000, epochs=4)
    assert 0 < peer.stored_bytes == start.stored_bytes <= 20_000
    moved = [not torch.equal(a, b) for a, b in zip(start.prefix[0], peer.prefix[0], strict=True)]
    assert all(moved)
    assert loss(adapters, backbone, demonstrations, peer) < loss(
        adapters, backbone, demonstrations, start
    )
    after = weights(backbone.hf)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_prefix_is_read_as_a_memory_is(adapters, backbone, demonstrations):
    """An untrained prefix is the first tokens of the demonstrations' own cache."""
    from tasm.build.api import build

    peer = adapters.prefix_peer(backbone, demonstrations, 20_000, epochs=0)
    full = build(backbone, demonstrations, recipe="full")
    tokens = peer.prefix[0][0].shape[2]
    for (keys, values), layer in zip(peer.prefix, full.core, strict=True):
        assert torch.equal(keys[0], layer.keys[:, :tokens])
        assert torch.equal(values[0], layer.values[:, :tokens])


def test_lora_learns_and_comes_off(adapters, backbone, demonstrations):
    pytest.importorskip("peft")
    before = weights(backbone.hf)
    nothing = loss(adapters, backbone, demonstrations, adapters.Peer("zero-shot"))
    with adapters.lora_peer(backbone, demonstrations, epochs=4) as peer:
        assert peer.stored_bytes > 0
        assert loss(adapters, backbone, demonstrations, peer) < nothing
    after = weights(backbone.hf)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_script_writes_rows_and_goes_on(backbone, model_folder, tmp_path, monkeypatch):
    arguments = ["--model", str(model_folder), "--suites", "bind@3,rule@3", "--seeds", "1"]
    arguments += ["--queries", "2", "--epochs", "1", "--out", str(tmp_path)]
    arguments += ["--peers", "zero-shot,tasm,prefix"]
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    runpy.run_path(str(PEERS / "run.py"), run_name="__main__")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {(row["suite"], row["peer"]) for row in rows} == {
        (suite, peer) for suite in ("bind@3", "rule@3") for peer in ("zero-shot", "tasm", "prefix")
    }
    runpy.run_path(str(PEERS / "run.py"), run_name="__main__")
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == len(rows)
    assert "| bind@3 | prefix |" in (tmp_path / "peers.md").read_text()


def loss(adapters, backbone, demonstrations, peer):
    """Mean loss on the demonstrations' answers, read as in an answer."""
    total = 0.0
    for demonstration in demonstrations:
        inputs, is_learned = adapters._sample(backbone, demonstration, peer.stands_before_prompts)
        arguments = {name: value for name, value in inputs.items() if name != "attention_mask"}
        if peer.stands_before_prompts:
            arguments["past_key_values"] = peer.cache(backbone.hf)
        with torch.inference_mode():
            logits = backbone.hf(**arguments).logits[0, :-1]
        wanted = inputs["input_ids"][0, 1:]
        total += float(
            torch.nn.functional.cross_entropy(logits[is_learned[1:]], wanted[is_learned[1:]])
        )
    return total / len(demonstrations)
