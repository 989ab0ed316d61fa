"""Verification: figures worked out again from plain answers, and nulls where there is nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tasm
from tasm.answer import ordinary_answers
from tasm.answer.ask import default_new_tokens
from tasm.check.verify import (
    Verification,
    accuracy,
    measure_fidelity,
)
from tests.answer.conftest import demonstrations
from tests.tiny_folders import tiny_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tasm.Model:
    return tasm.load_model(str(tiny_folder("qwen2_vl", tmp_path_factory.mktemp("m") / "qwen2_vl")))


@pytest.fixture(scope="module")
def memory(model: tasm.Model) -> tasm.TaskMemory:
    return tasm.build(model, demonstrations(), recipe="tasm", core="40%")


def test_figures_are_those_of_ordinary_prompts(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    """Agreement and logit error, worked out again from prompts without any memory of all tokens."""
    queries = [one.as_query() for one in demonstrations()][:3]
    found = Verification(intact=True)
    measure_fidelity(found, model.backbone, memory, queries, demonstrations(), batch_size=2)
    tokens = default_new_tokens(memory)
    full = ordinary_answers(
        model.backbone, demonstrations(), queries, layout=memory.layout, max_new_tokens=tokens
    )
    mine = model.ask_all(memory, queries)
    equal = [a.text == b.text for a, b in zip(mine, full, strict=True)]
    assert found.agreement == pytest.approx(sum(equal) / 3)
    assert found.accuracy["full"] == accuracy(full, queries)
    worst = 0.0
    with torch.no_grad():
        for query in queries:
            prompt = model.backbone.full_inputs(demonstrations(), query, layout=memory.layout)
            alone = model.backbone.query_inputs([query], layout=memory.layout)
            stock = model.hf(**prompt).logits[0, -1]
            kept = model.hf(**alone, past_key_values=memory.cache()).logits[0, -1]
            worst = max(worst, float((stock - kept).abs().max()))
    assert found.max_logit_error == pytest.approx(worst, abs=1e-4)
    assert found.queries == 3
    assert found.mean_js > 0


def test_without_demonstrations_there_is_nothing_to_compare_with(
    model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    found = Verification(intact=True)
    queries = [one.as_query() for one in demonstrations()][:1]
    measure_fidelity(found, model.backbone, memory, queries, None)
    assert (found.agreement, found.max_logit_error, found.mean_js) == (None, None, None)
    assert found.accuracy["full"] is None
    assert found.accuracy["memory"] is not None


def test_a_context_too_long_for_the_model_is_not_measured(
    model: tasm.Model, memory: tasm.TaskMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A streaming memory may hold more than the model could read at once."""
    short = replace(model.backbone.geometry, max_positions=100)
    packed = memory.replaced(next_position=40)
    monkeypatch.setattr(model.backbone, "geometry", short)
    said: list[str] = []
    found = Verification(intact=True)
    queries = [one.as_query() for one in demonstrations()][:1]
    measure_fidelity(found, model.backbone, packed, queries, demonstrations(), notice=said.append)
    assert found.agreement is None
    assert "100 positions" in said[0]


def test_demonstrations_ask_their_own_questions() -> None:
    queries = [one.as_query() for one in demonstrations()]
    for query, one in zip(queries, demonstrations(), strict=True):
        assert query.question == one.question
        assert query.answers == (one.answer,)
        assert query.messages[-1].role == "user"


def test_identity_in_a_sentence(model: tasm.Model, memory: tasm.TaskMemory, tmp_path: Path) -> None:
    other = tasm.load_model(str(tiny_folder("qwen2_vl", tmp_path / "other", seed=9)))
    found = tasm.verify(memory, other)
    assert found.model_matches is False
    assert "weights" in (found.complaint or "")
