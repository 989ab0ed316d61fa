"""The recipe `full` against one stock forward over the whole prompt."""

import pytest
import torch

from tests.compress.tiny_backbone import build_tiny, logits_after, stock_logits, tiny_backbone

WORDS = [20, 21, 22, 23, 24]


@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "gemma3", "qwen3", "gemma2"])
@pytest.mark.parametrize(("mode", "chunk"), [("joint", 4096), ("joint", 30), ("streaming", 30)])
def test_full_equals_stock(family: str, mode: str, chunk: int) -> None:
    backbone = tiny_backbone(family)
    transcript = backbone.transcript(range(1, 4))
    memory = build_tiny(backbone, transcript, recipe="full", mode=mode, chunk_tokens=chunk)
    mine = logits_after(backbone, memory.cache(), WORDS)
    stock = stock_logits(backbone, transcript, WORDS)
    assert (mine - stock).abs().max() < 1e-5
    alone = stock_logits(backbone, backbone.transcript([]), WORDS)
    assert (alone - stock).abs().max() > 1e-2


@pytest.mark.parametrize("recipe", ["tasm", "tasm-paper", "random", "recent"])
@pytest.mark.parametrize("mode", ["joint", "streaming"])
def test_keeping_everything_equals_full(recipe: str, mode: str) -> None:
    backbone = tiny_backbone()
    given = {"mode": mode, "chunk_tokens": 40}
    whole = build_tiny(backbone, recipe="full", **given)
    kept = build_tiny(backbone, recipe=recipe, core="100%", bank="0", **given)
    for mine, theirs in zip(kept.core, whole.core, strict=True):
        assert mine is not None and theirs is not None
        torch.testing.assert_close(mine.keys, theirs.keys, atol=0, rtol=0)
        torch.testing.assert_close(mine.values, theirs.values, atol=0, rtol=0)


@pytest.mark.parametrize("recipe", ["tasm", "tasm-paper", "random", "recent"])
@pytest.mark.parametrize("mode", ["joint", "streaming"])
def test_budgets_hold(recipe: str, mode: str) -> None:
    backbone = tiny_backbone()
    memory = build_tiny(
        backbone, 6, recipe=recipe, mode=mode, chunk_tokens=40, core="20", bank="25"
    )
    counts = [layer.counts for layer in memory.core if layer is not None]
    assert [sum(head) for head in zip(*counts, strict=True)] == [60, 60]
    for layer in memory.core:
        assert layer is not None
        assert layer.index[:, :4].tolist() == [[0, 1, 2, 3]] * 2
    assert memory.bank is not None
    if recipe != "tasm":  # which divides the same sum by layer
        assert counts == [(20, 20)] * 3
        assert [one.counts for one in memory.bank.layers if one is not None] == [(25, 25)] * 3
    assert memory.report["core_tokens"] == 20
    assert memory.report["bank_tokens"] == 25
