"""Every recipe on a device that is not the host: nothing mixes, and all is as on a plain CPU."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tasm.compress.recipes.table import all_recipes
from tests.compress.tiny_backbone import TinyBackbone, build_tiny, logits_after
from tests.devices.elsewhere import assert_same_layer, elsewhere
from tests.pretended_device import Watch, pretending, values
from tests.tiny_models import tiny_model

RECIPES = [name for name, recipe in all_recipes().items() if recipe.kind == "memory"]
STREAMED = ["tasm", "tasm-compact", "tasm-paper", "snapkv", "h2o", "emloc", "kvmerger", "zipvl"]
FAMILIES = ["qwen2_5_vl", "llama", "gemma3", "gpt_oss", "qwen3_5"]
WORDS = [20, 21, 22]


@pytest.fixture(scope="module")
def here() -> TinyBackbone:
    return TinyBackbone(tiny_model("qwen2_vl"))


@pytest.fixture(scope="module")
def there() -> Iterator[Any]:
    """A backbone on the device; its weights outlive the mode, which each test enters anew."""
    with pretending():
        return elsewhere()


def compare(here: TinyBackbone, there: Any, demonstrations: int, **given: Any) -> Watch:
    expected = build_tiny(here, demonstrations, **given)
    with pretending() as watch:
        built = build_tiny(there, demonstrations, **given)
        logits = logits_after(there, built.cache(), WORDS)
    # Least squares without a ridge, as published, magnify how the last digits were rounded.
    tolerance = 3e-2 if given.get("recipe") == "attention-matching" else 1e-5
    for found, wanted in zip(built.core, expected.core, strict=True):
        assert_same_layer(found, wanted, tolerance)
    assert (built.bank is None) == (expected.bank is None)
    if built.bank is not None and expected.bank is not None:
        for one, other in zip(built.bank.layers, expected.bank.layers, strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert_same_layer(one.held(), other.held())
    wanted_logits = logits_after(here, expected.cache(), WORDS)
    torch.testing.assert_close(values(logits), wanted_logits, atol=max(1e-4, tolerance), rtol=0)
    return watch


@pytest.mark.parametrize("name", RECIPES)
def test_a_build_and_an_answer(name: str, here: TinyBackbone, there: Any) -> None:
    compare(here, there, 3, recipe=name)


@pytest.mark.parametrize("name", STREAMED)
def test_a_streaming_build(name: str, here: TinyBackbone, there: Any) -> None:
    compare(here, there, 4, recipe=name, mode="streaming", chunk_tokens=45)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families(family: str) -> None:
    try:
        plain = TinyBackbone(tiny_model(family))
    except Exception as reason:  # not in the installed transformers
        pytest.skip(str(reason))
    with pretending():
        there = elsewhere(family)
    compare(plain, there, 3, recipe="tasm")
