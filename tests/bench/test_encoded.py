"""An episode encoded once gives the memories that builds from scratch give."""

from typing import Any

import pytest
import torch

import tasm
from tasm.bench.sources import read_episode
from tasm.compress.encoded import Encoded
from tasm.compress.recipes.table import find_recipe
from tasm.errors import BudgetError

NAMES = (
    "full", "tasm", "compact", "kvzip", "snapkv", "h2o", "emloc", "attention-matching", "cam",
    "random", "quest", "expected-attention",
)  # fmt: skip


@pytest.fixture(scope="module")
def demonstrations(files: Any) -> Any:
    return read_episode(files / "demos.jsonl", files / "queries.jsonl").demonstrations


@pytest.fixture(scope="module")
def encoded(backbone: Any, demonstrations: Any) -> Encoded:
    return Encoded(backbone, demonstrations, [find_recipe(name) for name in NAMES])


def same(first: Any, second: Any) -> None:
    """Every tensor of both is the same, to the last bit."""
    for mine, theirs in ((first.core, second.core), (_bank(first), _bank(second))):
        assert len(mine) == len(theirs)
        for one, other in zip(mine, theirs, strict=True):
            assert (one is None) == (other is None)
            for name, value in {} if one is None else vars(one).items():
                found = getattr(other, name)
                if isinstance(value, torch.Tensor):
                    assert torch.equal(value, found), name
                else:
                    assert value == found or (value is None and found is None), name
    assert first.gate == second.gate
    assert (first.reference is None) == (second.reference is None)
    if first.reference is not None:
        assert first.reference.thresholds == second.reference.thresholds
        for one, other in zip(first.reference.layers, second.reference.layers, strict=True):
            assert torch.equal(one, other)
    assert torch.equal(first.tokens.positions, second.tokens.positions)
    for name in ("recipe", "next_position", "logical_length", "core_bytes", "bank_bytes"):
        assert getattr(first, name) == getattr(second, name)
    assert first.full_bytes == second.full_bytes and first.demonstrations == second.demonstrations


def _bank(memory: Any) -> Any:
    layers = [] if memory.bank is None else memory.bank.layers
    return [None if layer is None else layer.held() for layer in layers]


def test_what_is_compressed_later_is_what_a_build_gives(
    backbone: Any, demonstrations: Any, encoded: Encoded
) -> None:
    """Twice through all recipes, so that none leaves anything behind for the next."""
    for core, seed in (("30%", 1), ("60%", 2)):
        for name in NAMES:
            core_of = None if name == "full" else core
            scratch = tasm.build(
                backbone, demonstrations, recipe=name, core=core_of, seed=seed, notice=None
            )
            same(encoded.build(find_recipe(name), core=core_of, seed=seed), scratch)


@pytest.mark.parametrize("among", [("kvzip-tuned", "tasm-compact"), ("kvzip", "kvzip-even-layers")])
def test_demonstrations_are_read_again_once_for_all(
    backbone: Any, demonstrations: Any, among: tuple[str, str]
) -> None:
    calls: list[int] = []
    read = type(backbone).encode_rows

    def counted(self: Any, chunks: Any, cache: Any) -> Any:
        calls.append(len(chunks))
        return read(self, chunks, cache)

    one, other = map(find_recipe, among)
    encoded = Encoded(backbone, demonstrations, [one, other])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(backbone), "encode_rows", counted)
        encoded.build(one, core="30%")
        once = list(calls)
        encoded.build(one, core="60%")
        encoded.build(other, core="60%")
    assert sum(once) == (1 if "kvzip" in among else len(demonstrations)) and calls == once


@pytest.mark.parametrize("stored", ["60%", "45%"])
def test_core_and_bank_together_meet_a_budget_of_bytes(encoded: Encoded, stored: str) -> None:
    for name in ("tasm", "kvzip", "snapkv", "random", "attention-matching"):
        memory = encoded.build(find_recipe(name), stored=stored)
        share = (memory.core_bytes + memory.bank_bytes) / memory.full_bytes
        wished = float(stored.strip("%")) / 100
        assert share <= 1.01 * wished, name
        token = 1 / memory.logical_length
        assert share > wished - 3 * token * (1 + find_recipe(name).bank.count("4")) * 1.1, name
        core, bank = (memory.recipe["settings"][size] for size in ("core", "bank"))
        assert int(bank) == (2 * int(core) if name == "tasm" else 0)


def test_a_budget_of_bytes_that_nothing_fits_into_is_refused(encoded: Encoded) -> None:
    with pytest.raises(BudgetError, match=r"'snapkv' cannot be stored in .* smallest possible"):
        encoded.build(find_recipe("snapkv"), stored="1%")
