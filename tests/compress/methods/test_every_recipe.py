"""Every recipe builds, answers in padded batches, and comes back from disk the same."""

from pathlib import Path

import pytest
import torch

from tasm.compress.recipes.recipe import Recipe
from tasm.compress.recipes.table import all_recipes
from tasm.memory import TaskMemory
from tests.compress.tiny_backbone import TinyBackbone, build_tiny, tiny_backbone

RECIPES = [recipe for recipe in all_recipes().values() if recipe.kind == "memory"]
FAMILIES = ["qwen2_vl", "llava"]
BACKBONES: dict[str, TinyBackbone] = {}


def backbone_of(family: str) -> TinyBackbone:
    if family not in BACKBONES:
        BACKBONES[family] = tiny_backbone(family)
    return BACKBONES[family]


def answers(backbone: TinyBackbone, memory: TaskMemory) -> torch.Tensor:
    """Logits of the last tokens of two queries of different length, left-padded together."""
    rows = [[12, 13, 14, 15, 16], [21, 22, 23]]
    ids = torch.tensor([rows[0], [0, 0, *rows[1]]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    with torch.no_grad():
        logits = backbone.hf(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=memory.cache(),
            use_cache=True,
        ).logits[:, -1]
        for row, one in zip(rows, logits, strict=True):
            alone = backbone.hf(
                input_ids=torch.tensor([row]), past_key_values=memory.cache(), use_cache=True
            ).logits[0, -1]
            torch.testing.assert_close(one, alone, atol=1e-4, rtol=1e-4)
    return logits


@pytest.mark.matrix
@pytest.mark.parametrize("mode", ["joint", "streaming"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_recipe(recipe: Recipe, family: str, mode: str, tmp_path: Path) -> None:
    if mode not in recipe.modes:
        pytest.skip(f"{recipe.name} is not built in mode {mode}")
    backbone = backbone_of(family)
    core = None if recipe.keeps_everything else "24"
    memory = build_tiny(
        backbone, 3, recipe=recipe, core=core, bank="10", mode=mode, chunk_tokens=30
    )
    logits = answers(backbone, memory)
    assert torch.isfinite(logits).all()
    if core is not None and recipe.name != "emloc-paper":
        kept = [count for layer in memory.core if layer is not None for count in layer.counts]
        assert sum(kept) / len(kept) <= 24
    memory.save(tmp_path / "m.tasm")
    torch.testing.assert_close(answers(backbone, TaskMemory.load(tmp_path / "m.tasm")), logits)
