"""`tasm.build(...)` as a whole: its report, its plan, what it refuses, that it repeats itself."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import tasm
from tasm.backbone.limits import positions_taken
from tasm.compress.plan import plan
from tasm.compress.recipes.table import DEFAULT_RECIPE
from tasm.errors import BudgetError, InputError
from tasm.memory import TaskMemory
from tests.compress.tiny_backbone import (
    build_tiny,
    logits_after,
    rows,
    stock_logits,
    tiny_backbone,
)


class Model:
    """What a public model looks like to `tasm.build`."""

    def __init__(self, backbone: Any) -> None:
        self.backbone = backbone


def tensors(memory: TaskMemory) -> list[torch.Tensor]:
    found = []
    for layer in memory.core:
        assert layer is not None
        found += [layer.keys, layer.values, layer.index]
    return found


@pytest.mark.parametrize("recipe", ["tasm", "random"])
def test_the_same_twice_and_another_with_another_seed(recipe: str) -> None:
    backbone = tiny_backbone()
    first, second, third = (
        tasm.build(Model(backbone), rows(4), recipe=recipe, seed=seed) for seed in (3, 3, 4)
    )
    for mine, theirs in zip(tensors(first), tensors(second), strict=True):
        assert torch.equal(mine, theirs)
    same = all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(tensors(first), tensors(third), strict=True)
    )
    assert same == (recipe == "tasm")


@pytest.mark.parametrize("mode", ["joint", "streaming"])
@pytest.mark.parametrize(
    "given",
    [{}, {"recipe": "tasm"}, {"recipe": "tasm", "core": "30", "bank": "12"}, {"core": "20kB"}],
)
def test_plan_tells_what_build_comes_to(mode: str, given: dict[str, str]) -> None:
    backbone = tiny_backbone()
    planned = plan(backbone, rows(12), mode=mode, chunk_tokens=60, **given)
    memory = tasm.build(backbone, rows(12), mode=mode, chunk_tokens=60, **given)
    report = memory.report
    for name in (
        "recipe", "mode", "demonstrations", "tokens", "core_tokens", "bank_tokens",
        "full_bytes", "core_bytes", "bank_bytes",
    ):  # fmt: skip
        if mode == "streaming" and name.startswith("bank"):
            # Layers are divided anew at every chunk: one may have dropped what it would bank now.
            assert 0.98 * planned[name] <= report[name] <= planned[name]
        else:
            assert planned[name] == report[name], name
    assert planned["chunks"] > 3
    assert planned["seconds"] > 0 and planned["peak_memory_bytes"] > 0
    assert set(report["seconds"]) == {"encode", "score", "reduce", "trial", "total"}
    assert memory.core_bytes == report["core_bytes"]
    if "core" in given and given["core"] == "20kB":
        assert memory.core_bytes <= 20_000


def test_bytes_held() -> None:
    backbone = tiny_backbone(num_hidden_layers=6)
    memory = tasm.build(backbone, rows(10), recipe="recent", core="20%")
    full = sum(2 * 2 * 16 * 4 * memory.logical_length for _ in memory.core)
    assert memory.full_bytes == full
    kept = memory.logical_length * 20 // 100
    keys_and_values = 6 * 2 * 2 * 16 * 4 * kept
    index = 6 * 2 * 4 * kept
    assert memory.core_bytes == keys_and_values + index + memory.tokens.nbytes


def test_stored_in_half_the_bytes() -> None:
    backbone = tiny_backbone()
    whole = tasm.build(backbone, rows(4))
    half = tasm.build(backbone, rows(4), store="bfloat16")
    assert half.dtype == "bfloat16"
    assert half.full_bytes == whole.full_bytes // 2
    assert half.core_bytes < whole.core_bytes


def test_what_is_recorded() -> None:
    memory = tasm.build(tiny_backbone(), rows(3), core=25, system="Be brief.")
    assert memory.recipe["name"] == DEFAULT_RECIPE == "compact"
    assert memory.recipe["settings"]["core"] == "25"
    assert memory.recipe["settings"]["system"] == "Be brief."
    assert [entry.id for entry in memory.demonstrations] == ["1", "2", "3"]
    assert memory.demonstrations[1].spans == ((22, 40),)
    assert memory.model_name == "tiny"


def test_core_and_bank_over_everything() -> None:
    notices: list[str] = []
    memory = tasm.build(tiny_backbone(), rows(4), recipe="tasm", core="80%", notice=notices.append)
    assert memory.report["core_tokens"] + memory.report["bank_tokens"] == memory.logical_length
    assert len(notices) == 1 and "cut" in notices[0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tasm.build(tiny_backbone(), rows(4), recipe="tasm", core="80%")
    assert any("cut" in str(one.message) for one in caught)


@pytest.mark.parametrize("mode", ["joint", "streaming"])
@pytest.mark.parametrize("recipe", ["compact", "tasm", "kvzip", "emloc", "zipvl"])
def test_nothing_is_chosen_where_every_layer_keeps_its_window(
    recipe: str, mode: str, tmp_path: Path
) -> None:
    backbone = tiny_backbone("gemma2", layer_types=["sliding_attention"] * 4)
    demonstrations = backbone.transcript(range(1, 6))
    memory = build_tiny(backbone, demonstrations, recipe=recipe, mode=mode, chunk_tokens=40)
    memory.save(tmp_path / "one.tasm")
    memory = tasm.load(tmp_path / "one.tasm")
    assert memory.bank is None
    found = logits_after(backbone, memory.cache(), [12, 13, 14])
    expected = stock_logits(backbone, demonstrations, [12, 13, 14])
    assert torch.allclose(found, expected, atol=1e-4)


def test_full_keeps_everything_and_says_so() -> None:
    notices: list[str] = []
    memory = tasm.build(tiny_backbone(), rows(3), recipe="full", core="20%", notice=notices.append)
    assert memory.report["core_tokens"] == memory.logical_length
    assert "not used" in notices[0]


def test_progress_reaches_its_end() -> None:
    steps: list[tuple[str, int, int]] = []
    tasm.build(tiny_backbone(), rows(6), chunk_tokens=40, progress=lambda *step: steps.append(step))
    assert steps[0][1] == 0
    assert steps[-1][1] == steps[-1][2] > 1


def test_too_small_a_budget() -> None:
    with pytest.raises(BudgetError, match="system prompt and BOS, always kept, are 4 tokens"):
        tasm.build(tiny_backbone(), rows(3), core=3)


@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "qwen3"])
def test_positions_are_counted_before_reading(family: str) -> None:
    backbone = tiny_backbone(family)
    transcript = backbone.transcript(range(1, 5))
    memory = build_tiny(backbone, transcript)
    taken = positions_taken(transcript, backbone.geometry.position_rows)
    assert taken == memory.next_position


@pytest.mark.parametrize("mode", ["joint", "streaming"])
def test_more_positions_than_the_model_knows(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone(max_position_embeddings=100)
    tasm.build(backbone, rows(3), mode=mode)
    monkeypatch.setattr(type(backbone), "encode", lambda *_: pytest.fail("nothing is to be read"))
    with pytest.raises(InputError, match=r"trained for 100 positions"):
        tasm.build(backbone, rows(10), mode=mode)
