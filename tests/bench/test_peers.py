"""The fine-tuned peers run, learn what they are shown, and leave the model as it was."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(PEERS))


@pytest.fixture
def adapters():
    import adapters

    return adapters


@pytest.fixture
def fitting():
    import fitting

    return fitting


@pytest.fixture
def demonstrations(files):
    from tasm.demonstrations import read_demonstrations

    return read_demonstrations(files / "demos.jsonl")


def weights(hf):
    return {name: tensor.clone() for name, tensor in hf.state_dict().items()}


def needed(hf):
    return {name: parameter.requires_grad for name, parameter in hf.named_parameters()}


def prefix(adapters, backbone, demonstrations, epochs, **settings):
    fit = adapters.Fit(rate=1e-2, epochs=epochs, batch=2, **settings)
    return adapters.prefix_peer(backbone, demonstrations, 20_000, fit)


def test_a_prefix_fits_its_bytes_and_learns(adapters, fitting, backbone, demonstrations):
    before, asked_for = weights(backbone.hf), needed(backbone.hf)
    start = prefix(adapters, backbone, demonstrations, 0)
    peer = prefix(adapters, backbone, demonstrations, 4)
    assert 0 < peer.stored_bytes == start.stored_bytes <= 20_000
    moved = [not torch.equal(a, b) for a, b in zip(start.prefix[0], peer.prefix[0], strict=True)]
    assert all(moved)
    assert loss(fitting, backbone, demonstrations, peer) < loss(
        fitting, backbone, demonstrations, start
    )
    after = weights(backbone.hf)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert needed(backbone.hf) == asked_for


@pytest.mark.parametrize("kind", ["text", "distil"])
def test_other_losses_learn_too(adapters, fitting, backbone, demonstrations, kind):
    start = prefix(adapters, backbone, demonstrations, 0)
    peer = prefix(adapters, backbone, demonstrations, 6, loss=kind)
    before, after = (loss(fitting, backbone, demonstrations, p, kind) for p in (start, peer))
    assert after < before


def test_a_prefix_is_read_as_a_memory_is(adapters, backbone, demonstrations):
    """An untrained prefix is the first tokens of the demonstrations' own cache."""
    from tasm.compress.api import build

    peer = prefix(adapters, backbone, demonstrations, 0)
    full = build(backbone, demonstrations, recipe="full")
    tokens = peer.prefix[0][0].shape[2]
    for (keys, values), layer in zip(peer.prefix, full.core, strict=True):
        assert torch.equal(keys[0], layer.keys[:, :tokens])
        assert torch.equal(values[0], layer.values[:, :tokens])


def test_a_prefix_is_trained_as_it_is_asked(adapters, fitting, backbone, demonstrations):
    """Batched training through transformers' cache gives the loss that an answer would have."""
    peer = prefix(adapters, backbone, demonstrations, 0)
    samples = [fitting.sample(backbone, item, after_prefix=True) for item in demonstrations]
    with torch.no_grad(), fitting.stock_attention(backbone.hf):
        trained = fitting.loss_of(backbone.hf, samples, peer.prefix, peer.next_position)
    assert float(trained) == pytest.approx(
        loss(fitting, backbone, demonstrations, peer), rel=1e-3, abs=1e-4
    )


def test_what_is_learned_of_a_demonstration(fitting, backbone, demonstrations):
    """The answer and its end; or all of the text, its first token and the pictures left out."""
    answer = fitting.sample(backbone, demonstrations[0])
    text = fitting.sample(backbone, demonstrations[0], "text")
    assert torch.equal(answer.inputs["input_ids"], text.inputs["input_ids"])
    learned = backbone.tokenizer.decode(answer.inputs["input_ids"][0, answer.is_learned])
    assert learned.startswith(demonstrations[0].answer)
    assert not text.is_learned[0]
    assert bool((text.is_learned | ~answer.is_learned).all())
    assert int(answer.is_learned.sum()) < int(text.is_learned.sum()) < len(text.is_learned) - 1


def test_lora_learns_and_comes_off(adapters, fitting, backbone, demonstrations):
    pytest.importorskip("peft")
    before, asked_for = weights(backbone.hf), needed(backbone.hf)
    nothing = loss(fitting, backbone, demonstrations, adapters.Peer("zero-shot"))
    fit = adapters.Fit(rate=1e-3, epochs=4, batch=2)
    with adapters.lora_peer(backbone, demonstrations, fit) as peer:
        assert peer.stored_bytes > 0
        assert loss(fitting, backbone, demonstrations, peer) < nothing
    after = weights(backbone.hf)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert needed(backbone.hf) == asked_for


def test_elsewhere_is_one_conversation(adapters, backbone, demonstrations):
    """What stands before another task's demonstrations is read with them, piece by piece or not."""
    import asking

    from tasm.answer import full_context
    from tasm.backbone.prompt.transcript import Layout
    from tasm.bench.sources import Episode
    from tasm.demonstrations import Query

    rows = [Query(item.id, item.messages[:-1], (item.answer,)) for item in demonstrations[:2]]
    seen = []

    def keep(backbone, queries, inputs, cache, new_tokens):
        with torch.no_grad():
            seen.append(backbone.hf(**inputs, past_key_values=cache).logits[:, -1])
        return [1.0] * len(queries)

    others = demonstrations[::-1]  # a prompt that begins with the memory's own would be refused
    peer = adapters.Peer("full", memory=full_context(backbone, others))
    original, asking._right = asking._right, keep
    try:
        asking.answered_elsewhere(backbone, peer, Episode(demonstrations, rows, ()), 4)
    finally:
        asking._right = original
    inputs = backbone.full_inputs(demonstrations, rows[0], layout=Layout(multi_image=True))
    with torch.no_grad():
        whole = backbone.hf(**inputs, past_key_values=peer.cache(backbone.hf)).logits[:, -1]
    assert torch.allclose(seen[0][:1], whole, atol=1e-3)


def test_the_script_writes_rows_and_goes_on(backbone, model_folder, tmp_path, monkeypatch):
    arguments = ["--model", str(model_folder), "--suites", "bind@3,rule@3", "--seeds", "1"]
    arguments += ["--queries", "2", "--elsewhere-queries", "2", "--epochs", "1"]
    arguments += ["--out", str(tmp_path), "--peers", "zero-shot,tasm,prefix"]
    rows = run("run.py", arguments, monkeypatch, tmp_path / "rows.jsonl")
    assert {(row["suite"], row["peer"]) for row in rows} == {
        (suite, peer) for suite in ("bind@3", "rule@3") for peer in ("zero-shot", "tasm", "prefix")
    }
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"suite": "bi')  # interrupted while it wrote
    assert run("run.py", arguments, monkeypatch, tmp_path / "rows.jsonl") == rows
    assert "| bind@3 | prefix |" in (tmp_path / "peers.md").read_text()
    more = run("run.py", [*arguments, "--first-seed", "5"], monkeypatch, tmp_path / "rows.jsonl")
    assert [row["seed"] for row in more] == [0] * 6 + [5] * 6
    assert "Seeds: 5." in (tmp_path / "peers.md").read_text()
    changed = run("run.py", [*arguments, "--epochs", "2"], monkeypatch, tmp_path / "rows.jsonl")
    assert [row["peer"] for row in changed[12:]] == ["prefix", "prefix"]


def test_settings_are_tuned_on_training_classes(backbone, model_folder, tmp_path, monkeypatch):
    arguments = ["--model", str(model_folder), "--suites", "bind@8", "--seeds", "1"]
    arguments += ["--queries", "2", "--peers", "prefix", "--rates", "1e-3", "--epochs", "1,2"]
    rows = run(
        "tune.py", [*arguments, "--out", str(tmp_path)], monkeypatch, tmp_path / "tune.jsonl"
    )
    assert [(row["seed"], row["epochs"]) for row in rows] == [(2000, 1), (2000, 2)]


def run(script, arguments, monkeypatch, rows):
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    runpy.run_path(str(PEERS / script), run_name="__main__")
    return [json.loads(line) for line in rows.read_text().splitlines()]


def loss(fitting, backbone, demonstrations, peer, kind="answer"):
    """Mean loss of the learned tokens, each demonstration read by itself as in an answer."""
    samples = [
        fitting.sample(backbone, item, kind, peer.stands_before_prompts) for item in demonstrations
    ]
    if kind == "distil":
        fitting._teach(backbone, demonstrations, samples)
    total, tokens = 0.0, 0
    for item in samples:
        arguments = {name: v for name, v in item.inputs.items() if name != "attention_mask"}
        if peer.stands_before_prompts:
            arguments["past_key_values"] = peer.cache(backbone.hf)
        with torch.inference_mode():
            logits = backbone.hf(**arguments).logits[0, :-1][item.is_learned[1:]]
        wanted = item.inputs["input_ids"][0, 1:][item.is_learned[1:]]
        if item.targets is not None:
            found = torch.nn.functional.kl_div(
                logits.log_softmax(-1), item.targets, log_target=True, reduction="sum"
            )
        else:
            found = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
        total, tokens = total + float(found), tokens + len(wanted)
    return total / tokens
