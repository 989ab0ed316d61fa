"""Masked demonstrations: what an answer is worth without them, against memories that lack them."""

import math
from dataclasses import replace

import pytest
import torch

import tasm
from tasm.answer.explaining.masking import masked_scores
from tasm.check.suspects import suspects
from tasm.errors import InputError
from tests.answer.conftest import demonstrations, queries

ANSWER = (40, 41, 42)


def without(memory: tasm.TaskMemory, numbers: set[int]) -> tasm.TaskMemory:
    """A memory whose tensors do not hold these demonstrations' columns at all."""
    owner = memory.tokens.demonstration
    layers = []
    for layer in memory.core:
        assert layer is not None
        keep = ~torch.isin(owner[layer.index.long()], torch.tensor(sorted(numbers)))
        if layer.padding is not None:
            keep &= ~layer.padding
        layers.append(replace(layer, bias=layer.bias).where(keep))
    return memory.replaced(core=layers)


def forced(model: tasm.Model, memory: tasm.TaskMemory, query: tasm.Query) -> list[float]:
    """Query and answer in one call of the model: the log-probability of every answer token."""
    inputs = model.backbone.query_inputs([query], layout=memory.layout)
    said = torch.tensor([ANSWER])
    inputs["input_ids"] = torch.cat([inputs["input_ids"], said], 1)
    for name in ("attention_mask", "token_type_ids", "mm_token_type_ids"):
        if name in inputs:
            more = torch.full_like(said, int(name == "attention_mask"))
            inputs[name] = torch.cat([inputs[name], more], 1)
    with torch.inference_mode():
        logits = model.hf(**inputs, past_key_values=memory.cache(gate="never")).logits[0].float()
    before = logits[-len(ANSWER) - 1 : -1].log_softmax(-1)
    return [float(before[at, token]) for at, token in enumerate(ANSWER)]


@pytest.mark.parametrize("recipe", ["full", "h2o", "compact"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_masked_demonstration_is_as_if_its_columns_were_not_there(
    model: tasm.Model, recipe: str, number: int
) -> None:
    core = {} if recipe == "full" else {"core": "40%"}
    memory = tasm.build(model, demonstrations(), recipe=recipe, notice=None, **core)
    maskings = [-1, 2, (0, 4), (0, 1, 2, 3, 4, 5), ()]
    query = queries()[number]
    found = masked_scores(
        model.backbone, memory, query, ANSWER, maskings, ends=False, rows=2
    ).log_probabilities
    for one, masking in zip(
        found.tolist(), [set(), {2}, {0, 4}, set(range(6)), set()], strict=True
    ):
        bare = without(memory, masking) if masking else memory
        assert one == pytest.approx(sum(forced(model, bare, query)), abs=2e-3)
    assert len({round(one, 3) for one in found.tolist()}) > 2, "masking changes something here"


def test_several_rows_at_once_and_one_by_one_are_the_same(
    model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    """With a bank, too: each masking retrieves for itself, and brings nothing that is hidden."""
    query = queries()[0]
    maskings = [-1, 0, (1, 2), (0, 1, 2, 3, 4)]
    together = masked_scores(model.backbone, memory, query, ANSWER, maskings)
    alone = masked_scores(model.backbone, memory, query, ANSWER, maskings, rows=1)
    for name in ("log_probabilities", "log_odds"):
        some, each = getattr(together, name).tolist(), getattr(alone, name).tolist()
        assert some == pytest.approx(each, abs=1e-3)


def test_what_was_said_is_as_probable_as_when_it_was_said(
    model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    for query in queries()[:2]:
        answer = model.ask_all(memory, [query], max_new_tokens=3)[0]
        has_end = len(answer.log_probabilities) > len(answer.token_ids)
        (again,) = masked_scores(
            model.backbone, memory, query, answer.token_ids, [-1], ends=has_end
        ).log_probabilities.tolist()
        assert again == pytest.approx(sum(answer.log_probabilities), abs=1e-3)


def test_an_empty_answer_is_its_end(model: tasm.Model, full: tasm.TaskMemory) -> None:
    found = masked_scores(model.backbone, full, queries()[0], (), [-1])
    said, odds = float(found.log_probabilities), float(found.log_odds)
    assert said < 0
    assert odds == pytest.approx(said - math.log1p(-math.exp(said)), abs=1e-4)


def test_recurrent_layers_have_nothing_to_mask(model: tasm.Model, full: tasm.TaskMemory) -> None:
    kinds = ("linear", *full.geometry.layer_kinds[1:])
    hybrid = full.replaced(geometry=replace(full.geometry, layer_kinds=kinds))
    with pytest.raises(InputError, match=r"recurrent.*Take explain='attention'"):
        model.ask_all(hybrid, queries()[:1], explain="ablation")
    with pytest.raises(InputError, match="suspects masks demonstrations"):
        suspects(model, hybrid, demonstrations())
