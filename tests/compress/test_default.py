"""The default recipe: named once, and built in every mode that a family can do."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import tasm
from tasm.cli.build import build as build_command
from tasm.cli.tune import tune as tune_command
from tasm.compress.recipes.table import DEFAULT_RECIPE, find_recipe
from tasm.errors import InputError
from tests.compress.tiny_backbone import rows, tiny_backbone

NOT_ALONE = {"gemma3": "sliding", "gpt_oss": "sliding", "qwen3_5": "linear"}
"""Families with layers whose memory cannot be taken apart, and what these are called."""


@pytest.mark.parametrize("call", [tasm.build, tasm.plan, tasm.tune, build_command, tune_command])
def test_it_is_named_once(call: Callable[..., Any]) -> None:
    given = inspect.signature(call).parameters
    named = given["recipes"] if "recipes" in given else given["recipe"]
    assert named.default == DEFAULT_RECIPE == "compact"


@pytest.mark.parametrize("mode", ["joint", "streaming", "independent"])
@pytest.mark.parametrize("family", ["qwen2_vl", "llama", *NOT_ALONE])
def test_it_is_built_in_every_mode_or_one_sentence_says_which(family: str, mode: str) -> None:
    backbone = tiny_backbone(family)
    if mode == "independent" and family in NOT_ALONE:
        said = f"has layers with {NOT_ALONE[family]} attention.* Build in mode joint or streaming"
        with pytest.raises(InputError, match=said):
            tasm.build(backbone, rows(4), core="40%", mode=mode)
        return
    memory = tasm.build(backbone, rows(4), core="40%", mode=mode, notice=None)  # type: ignore[arg-type]
    assert memory.recipe["name"] == DEFAULT_RECIPE
    assert memory.bank is None and memory.bank_bytes == 0
    assert 0 < memory.report["core_tokens"] < memory.logical_length


def test_one_demonstration_is_enough() -> None:
    memory = tasm.build(tiny_backbone(), rows(1), core="50%", notice=None)
    assert 0 < memory.report["core_tokens"] < memory.logical_length


def test_a_bank_is_taken_where_one_is_asked_for() -> None:
    assert find_recipe(DEFAULT_RECIPE).bank == "0"
    memory = tasm.build(tiny_backbone(), rows(4), core="30%", bank="20%", notice=None)
    assert memory.bank is not None and memory.report["bank_tokens"] > 0
