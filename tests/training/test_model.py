"""The bundled model: fast training passes equal the stock ones, and it learns in context."""

import pytest
import torch

from tasm.suites.suites import episode
from training import layout, net
from training.bank import patches
from training.decoder import paint_exactly
from training.evaluate import MODEL, load, right


@pytest.fixture(scope="module")
def model():
    return load()


def test_it_is_small_and_fit_for_the_purpose(model):
    assert (MODEL / "model.safetensors").stat().st_size <= 24 * 2**20
    text = model.config.text_config
    assert text.hidden_size // text.num_attention_heads >= 32
    assert text.num_attention_heads > text.num_key_value_heads >= 2
    assert net.TOKENS >= 16


@torch.no_grad()
def test_training_passes_equal_the_stock_modules(model):
    made = episode("bind", demonstrations=4, queries=1)
    batch = layout.batch([made])
    patch = patches(paint_exactly(batch.pictures))
    grid = torch.tensor([[1, 8, 8]] * len(patch))
    out = model.model.visual(patch.flatten(0, 1), grid_thw=grid)
    stock = getattr(out, "pooler_output", out)
    assert torch.allclose(net.tower(model.model.visual, patch).flatten(0, 1), stock, atol=1e-4)
    embeds = torch.randn(1, batch.ids.shape[1], net.WIDTH)
    language = model.model.language_model
    fast = net.decoder(language, embeds, batch.positions, batch.mask()).states
    mask = batch.mask()[:, 0].float()
    slow = language(
        inputs_embeds=embeds, position_ids=batch.positions.long(), attention_mask=mask
    ).last_hidden_state
    assert torch.allclose(fast, slow, atol=1e-3)


def test_it_learns_words_of_unseen_glyphs_from_its_context(model):
    kept = ("full", "zero-shot", "shuffled labels")
    found = right(model, episode("bind", seed=100, queries=20), kept)
    share = {name: sum(answers) / len(answers) for name, answers in found.items()}
    assert share["full"] >= 0.6
    assert share["zero-shot"] <= 0.1
    assert share["shuffled labels"] <= 0.4


def test_it_finds_a_needle_by_visual_tokens_only(model):
    kept = ("full", "answers only", "images only")
    found = right(model, episode("needle", seed=100, queries=20), kept)
    share = {name: sum(answers) / len(answers) for name, answers in found.items()}
    assert share["full"] >= 0.6
    assert share["answers only"] <= share["full"] - 0.2
    assert share["images only"] >= share["full"] - 0.2
