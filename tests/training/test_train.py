"""The training script's options: another shape, another choice of tasks, a tower that is there."""

import json

import pytest
import torch

from tasm.suites.suites import episode
from training import layout, net, train
from training.evaluate import MODEL, load, right

SMALL = ["--layers", "4", "--heads", "8", "--kv-heads", "4", "--mlp", "64", "--threads", "1"]
SPREAD = ["--guidance", "spread", "--suites", "bind", "--fades", "0.25"]


def given(*more, out="out/none"):
    return train.parse([*SMALL, *SPREAD, "--out", str(out), *more])


@torch.no_grad()
def test_the_fast_pass_follows_the_models_own_shape():
    options, _ = given("--tower", str(MODEL))
    model = train.fresh(options, "decoder")
    language = model.model.language_model
    batch = layout.batch([episode("bind", demonstrations=3, queries=1)])
    embeds = torch.randn(1, batch.ids.shape[1], net.WIDTH)
    fast = net.decoder(language, embeds, batch.positions, batch.mask()).states
    slow = language(
        inputs_embeds=embeds,
        position_ids=batch.positions.long(),
        attention_mask=batch.mask()[:, 0].float(),
    ).last_hidden_state
    assert torch.allclose(fast, slow, atol=1e-3)


def test_a_given_tower_is_taken_over_and_stays_frozen():
    options, stages = given("--tower", str(MODEL))
    assert stages == ["decoder", "tasks", "joint", "sharpen"]
    model, bundled = train.fresh(options, "decoder"), load()
    for name, value in bundled.model.visual.state_dict().items():
        assert torch.equal(model.model.visual.state_dict()[name], value)
    assert not train.phase_of(options, "joint").tower
    assert train.phase_of(train.parse([])[0], "joint").tower


def test_suites_and_fading_are_those_asked_for():
    phase = train.phase_of(given()[0], "decoder")
    assert set(phase.shares) == {"bind"}
    shares = train.phase_of(given("--suites", "bind,late=6.5")[0], "decoder").shares
    assert shares == {"bind": train.PHASES["decoder"].shares["bind"], "late": 6.5}
    assert phase.fades == 0.25


def test_rotary_sections_fill_half_a_head():
    assert net.BUNDLED.sections == [2, 5, 25]
    assert net.Shape(heads=8).sections == [1, 2, 13]
    stored = json.loads((MODEL / "config.json").read_text())["text_config"]
    assert stored["rope_scaling"]["mrope_section"] == net.BUNDLED.sections


def test_it_trains_goes_on_and_gives_an_ordinary_folder(tmp_path, monkeypatch):
    class FewThings:  # a bank of all glyphs takes half a minute to draw
        def paint(self, pictures, noise=0.0, bent=0.0):
            return torch.rand(len(pictures), 3, 64, 64)

    monkeypatch.setattr("training.decoder.Bank", lambda folder: FewThings())
    monkeypatch.setattr("training.decoder.settle_tower", lambda model, bank, rng: None)
    monkeypatch.setattr("training.train.plot", lambda *files: None)
    short = ("--stage", "decoder", "--minutes", "0.02", "--tokens", "200", "--tower", str(MODEL))
    options, stages = given(*short, out=tmp_path)
    train.run(options, stages)
    first = torch.load(tmp_path / "decoder.pt", weights_only=True)["spent"]
    with pytest.raises(SystemExit):
        given(*short, out=tmp_path)
    options, stages = given(*short, "--minutes", "0.04", "--resume", out=tmp_path)
    train.run(options, stages)
    second = torch.load(tmp_path / "decoder.pt", weights_only=True)["spent"]
    assert second[0] > first[0]
    assert second[1] > first[1] > 0
    model = load(tmp_path / "model")
    assert net.shape_of(model.config.text_config) == net.Shape(4, 8, 4, 64)
    assert len(right(model, episode("bind", demonstrations=4, queries=4), ("full",))["full"]) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--suites", "bind,blnd"], "'blnd' is not one of bind"),
        (["--heads", "6"], "heads must divide 256"),
        (["--heads", "8", "--kv-heads", "3"], "KV heads must divide heads"),
        (["--heads", "8", "--kv-heads", "8"], "--guidance spread"),
        (["--layers", "4"], "at least 5 layers"),
        (["--layers", "3", "--guidance", "spread"], "expected 4 or more"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(options, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.parse(options)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
