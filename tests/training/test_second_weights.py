"""The second weights: another shape, small, beside the package, and they learn in context."""

from pathlib import Path

import pytest

from tasm.suites.suites import episode
from training import net
from training.evaluate import load, right

FOLDER = Path(__file__).parents[2] / "weights" / "second"


@pytest.fixture(scope="module")
def model():
    return load(FOLDER)


def test_they_are_small_and_of_another_shape(model):
    assert (FOLDER / "model.safetensors").stat().st_size <= 12_000_000
    assert net.shape_of(model.config.text_config) == net.Shape(8, 8, 4, 384)


def test_they_find_needles_of_unseen_tags_by_visual_tokens(model):
    kept = ("full", "zero-shot", "answers only")
    found = right(model, episode("needle", seed=100, queries=20), kept)
    share = {name: sum(answers) / len(answers) for name, answers in found.items()}
    assert share["full"] >= 0.6
    assert share["zero-shot"] <= 0.2
    assert share["answers only"] <= 0.2
