"""An explanation's shares against attention that transformers computes by itself."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

import tasm
from tests.answer.conftest import demonstrations, queries


@pytest.mark.parametrize("number", range(4))
def test_shares_are_attention_times_value_length(
    number: int, folder: Path, model: tasm.Model, full: tasm.TaskMemory
) -> None:
    """One eager forward of the whole prompt gives attention and values; the rest is adding up."""
    query = queries()[number]
    stock = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager")
    inputs = model.backbone.full_inputs(demonstrations(), query, layout=full.layout)
    with torch.no_grad():
        output = stock(**inputs, output_attentions=True, use_cache=True)
    owners = model.backbone.transcript(demonstrations()).demonstration
    expected = [0.0] * 6
    for layer, attention in enumerate(output.attentions):
        values = output.past_key_values.layers[layer].values[0]
        group = attention.shape[1] // values.shape[0]
        for head in range(attention.shape[1]):
            lengths = values[head // group].norm(dim=-1)
            for token, owner in enumerate(owners.tolist()):
                if owner >= 0:
                    expected[owner] += float(attention[0, head, -1, token] * lengths[token])
    shares = model.ask_all(full, [query], max_new_tokens=3, explain=True)[0].demonstrations
    assert [one.id for one in shares] == [one.id for one in demonstrations()]
    for share, mass in zip(shares, expected, strict=True):
        assert share.weight == pytest.approx(mass / sum(expected), rel=1e-4)


def test_what_was_retrieved_counts(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    """With one core token a head beside the system prompt, retrieval decides."""
    without = model.ask(memory, question="Which?", explain=True, gate="never")
    with_bank = model.ask(memory, question="Which?", explain=True, gate="always")
    assert with_bank.retrieved_tokens > 0
    for answer in (without, with_bank):
        assert sum(one.weight for one in answer.demonstrations) == pytest.approx(1)
    assert [one.weight for one in without.demonstrations] != pytest.approx(
        [one.weight for one in with_bank.demonstrations]
    )


def test_without_being_asked_nothing_is_explained(
    model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    assert model.ask(memory, question="Which?").demonstrations == ()
