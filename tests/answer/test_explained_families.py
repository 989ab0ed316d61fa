"""Explanations in families whose attention or projections differ: sliding windows, soft caps."""

from pathlib import Path

import pytest
import torch

import tasm
from tasm.answer.explaining.masking import masked_scores
from tests.answer.conftest import demonstrations, queries
from tests.tiny_folders import IMAGE_FAMILIES, tiny_folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["gemma3", "gemma2", "glm4v", "qwen3_vl"])
def test_reading_and_masking(family: str, tmp_path: Path) -> None:
    """Masking all demonstrations is asking a memory that holds none of their columns."""
    model = tasm.load_model(tiny_folder(family, tmp_path / family))
    rows, query = demonstrations()[:4], queries()[0]
    if family not in IMAGE_FAMILIES:
        texts = [{"question": f"Number {n}?", "answer": "x " * n} for n in (1, 2, 3, 4)]
        rows, query = tasm.read_demonstrations(texts), queries()[2]
    memory = tasm.build(model, rows, recipe="full")
    (answer,) = model.ask_all(memory, [query], max_new_tokens=2, explain="ablation")
    shares = answer.demonstrations
    assert sum(one.weight for one in shares) == pytest.approx(1)
    assert sum(one.attention for one in shares) == pytest.approx(1)
    assert sum(abs(one.support or 0) for one in shares) == pytest.approx(1)
    assert all(one.effect is not None for one in shares)
    owner = memory.tokens.demonstration
    bare = memory.replaced(
        core=[
            None if layer is None else layer.where(owner[layer.index.long()] < 0)
            for layer in memory.core
        ]
    )
    ids = answer.token_ids or (5,)
    everything = masked_scores(model.backbone, memory, query, ids, [range(4)]).log_probabilities
    nothing = masked_scores(model.backbone, bare, query, ids, [-1]).log_probabilities
    assert torch.allclose(everything, nothing, atol=1e-3)
