"""Any number of demonstrations, in chunks of any size, at any budget: every recipe builds."""

from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.recipes.table import all_recipes
from tasm.memory import TaskMemory
from tests.compress.shapes import Shape, shaped_transcript
from tests.compress.tiny_backbone import TinyBackbone, build_tiny, tiny_backbone

RECIPES = sorted(name for name, recipe in all_recipes().items() if recipe.kind == "memory")
MODES = ["joint", "streaming"]

SHAPES = st.builds(
    Shape,
    question=st.integers(0, 3),
    image=st.booleans(),
    answer=st.integers(0, 2),
    template=st.integers(0, 1),
).filter(lambda shape: sum(shape) > 0)


@cache
def backbone() -> TinyBackbone:
    return tiny_backbone("qwen2_vl", num_hidden_layers=2)


def check(recipe: str, transcript: Transcript, core: int, memory: TaskMemory) -> None:
    counts = []
    for layer in memory.core:
        assert layer is not None and min(layer.counts) > 0
        counts += layer.counts
        for tensor in (layer.keys, layer.values, layer.bias):
            assert tensor is None or torch.isfinite(tensor).all()
    if all_recipes()[recipe].keeps_everything:
        assert set(counts) == {len(transcript)}
    elif recipe != "emloc-paper":  # its bound decides how much is kept
        assert sum(counts) <= core * len(counts)
    with torch.no_grad():
        ids = torch.tensor([[12, 13, 14]])
        logits = backbone().hf(input_ids=ids, past_key_values=memory.cache(), use_cache=True).logits
    assert torch.isfinite(logits).all()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    recipe=st.sampled_from(RECIPES),
    shapes=st.lists(SHAPES, min_size=1, max_size=8),
    head=st.sampled_from([0, 1, 4]),
    over=st.integers(0, 30),
    bank=st.sampled_from(["0", "1", "40%"]),
    mode=st.sampled_from(MODES),
    chunk=st.sampled_from([1, 4, 12, 1000]),
)
def test_every_recipe_at_every_size(
    recipe: str, shapes: list[Shape], head: int, over: int, bank: str, mode: str, chunk: int
) -> None:
    transcript = shaped_transcript(backbone(), shapes, head)
    core = min(max(1, head) + over, len(transcript))
    memory = build_tiny(
        backbone(),
        transcript,
        recipe=recipe,
        core=None if all_recipes()[recipe].keeps_everything else str(core),
        bank=bank,
        mode=mode,
        chunk_tokens=chunk,
    )
    check(recipe, transcript, core, memory)


@pytest.mark.parametrize("recipe", RECIPES)
def test_one_demonstration_of_one_token_at_a_time(recipe: str) -> None:
    """The smallest chunks and budgets there are; the first chunk has no answer."""
    shapes = [
        Shape(1, False, 0, 0),
        Shape(0, False, 1, 0),
        Shape(1, True, 0, 1),
        Shape(2),
        Shape(1),
    ]
    transcript = shaped_transcript(backbone(), shapes, 1)
    for core in (1, 2):
        memory = build_tiny(
            backbone(),
            transcript,
            recipe=recipe,
            core=None if all_recipes()[recipe].keeps_everything else str(core),
            bank="2",
            mode="streaming",
            chunk_tokens=1,
        )
        check(recipe, transcript, core, memory)


@pytest.mark.parametrize("mode", MODES)
def test_many_demonstrations(mode: str) -> None:
    transcript = shaped_transcript(backbone(), [Shape(3), Shape(1, True, 1)] * 60)
    memory = build_tiny(backbone(), transcript, core="64", bank="128", mode=mode, chunk_tokens=1)
    check("tasm", transcript, 64, memory)
    assert memory.bank is not None and memory.report["bank_tokens"] == 128
