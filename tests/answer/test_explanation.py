"""An explanation's shares against attention that transformers computes by itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

import tasm
from tasm.answer.explaining.attention import Reading
from tasm.answer.explaining.masking import masked_scores
from tasm.errors import InputError
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
    layers = len(output.attentions)
    read, plain = torch.zeros(layers, 6), torch.zeros(6)
    written = torch.zeros(6, stock.config.get_text_config().hidden_size)
    of_tokens = torch.zeros(len(owners))
    for layer, attention in enumerate(output.attentions):
        values = output.past_key_values.layers[layer].values[0]
        group = attention.shape[1] // values.shape[0]
        heads = torch.zeros(6, attention.shape[1], values.shape[2])
        for head in range(attention.shape[1]):
            lengths = values[head // group].norm(dim=-1)
            for token, owner in enumerate(owners.tolist()):
                if owner >= 0:
                    share = attention[0, head, -1, token]
                    read[layer, owner] += share * lengths[token]
                    of_tokens[token] += share * lengths[token]
                    plain[owner] += share
                    heads[owner, head] += share * values[head // group, token]
        projection = stock.model.language_model.layers[layer].self_attn.o_proj
        with torch.no_grad():
            written += heads.flatten(1) @ projection.weight.T
    answer = model.ask_all(full, [query], max_new_tokens=3, explain=True)[0]
    shares = answer.demonstrations
    assert [one.id for one in shares] == [one.id for one in demonstrations()]
    speaks = written @ _gains(stock, output.logits[0, -1])
    for number, share in enumerate(shares):
        assert share.weight == pytest.approx(float(read.sum(0)[number] / read.sum()), rel=1e-4)
        assert share.layers == pytest.approx((read[:, number] / read.sum()).tolist(), rel=1e-3)
        assert share.attention == pytest.approx(float(plain[number] / plain.sum()), rel=1e-4)
        assert share.support == pytest.approx(
            float(speaks[number] / speaks.abs().sum()), rel=1e-2, abs=1e-4
        )
        assert share.retrieved == share.attention_retrieved == 0
    assert answer.token_weights is not None
    assert answer.token_weights[0].tolist() == pytest.approx(
        (of_tokens / read.sum()).tolist(), rel=1e-3, abs=1e-7
    )


def _gains(stock: Any, logits: torch.Tensor) -> torch.Tensor:
    """By automatic differentiation: how the likeliest token's log-odds grow with the last state,
    behind the last norm's scale."""
    token = int(logits.argmax())
    state = torch.zeros(stock.config.get_text_config().hidden_size, requires_grad=True)
    scaled = state * stock.model.language_model.norm.weight.detach()
    moved = logits.detach() + scaled @ stock.lm_head.weight.detach().T
    others = torch.cat([moved[:token], moved[token + 1 :]])
    (moved[token] - others.logsumexp(0)).backward()
    assert state.grad is not None
    return state.grad


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
    answer = model.ask(memory, question="Which?")
    assert answer.demonstrations == () and answer.token_weights is None


def test_a_batch_explains_each_row_as_if_alone(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    together = model.ask_all(memory, queries(), max_new_tokens=3, explain="ablation", gate="always")
    for query, answer in zip(queries(), together, strict=True):
        (alone,) = model.ask_all(
            memory, [query], max_new_tokens=3, explain="ablation", gate="always"
        )
        for one, other in zip(answer.demonstrations, alone.demonstrations, strict=True):
            assert one.weight == pytest.approx(other.weight, abs=1e-4)
            assert one.attention_retrieved == pytest.approx(other.attention_retrieved, abs=1e-4)
            assert one.support == pytest.approx(other.support, abs=1e-3)
            assert one.effect == pytest.approx(other.effect, abs=2e-3)


def test_an_effect_is_what_the_log_odds_lose(model: tasm.Model, full: tasm.TaskMemory) -> None:
    query = queries()[0]
    (answer,) = model.ask_all(full, [query], max_new_tokens=3, explain="ablation")
    ends = len(answer.log_probabilities) > len(answer.token_ids)
    scores = masked_scores(
        model.backbone, full, query, answer.token_ids, [-1, *range(6)], ends=ends
    )
    odds = torch.logit(scores.log_probabilities.double().exp())
    for number, one in enumerate(answer.demonstrations):
        assert one.effect == pytest.approx(float(odds[0] - odds[1 + number]), abs=1e-3)
    ranked = answer.nearest(6)
    assert [one.effect for one in ranked] == sorted((one.effect for one in ranked), reverse=True)


def test_labels_are_explained_too(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    query = queries()[0]
    (answer,) = model.ask_all(memory, [query], labels=["red", "blue green"], explain="ablation")
    assert len(answer.demonstrations) == 6
    assert all(one.effect is not None for one in answer.demonstrations)


def test_a_packed_memory_is_explained(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    query = queries()[0]
    (plain,) = model.ask_all(memory, [query], max_new_tokens=1, explain=True)
    (packed,) = model.ask_all(
        memory.packed("int8", model), [query], max_new_tokens=1, explain="ablation"
    )
    for one, other in zip(plain.demonstrations, packed.demonstrations, strict=True):
        assert one.weight == pytest.approx(other.weight, abs=0.02)


def test_after_the_first_step_nothing_is_recorded(model: tasm.Model, full: tasm.TaskMemory) -> None:
    inputs = model.backbone.query_inputs([queries()[0]], layout=full.layout)
    cache = full.cache()
    reading = Reading(cache, full.tokens.demonstration, rows=1)
    model.backbone.next_logits(inputs, cache)
    once = reading.weighted.clone()
    more = {
        "input_ids": torch.tensor([[7]]),
        "attention_mask": torch.ones(1, inputs["input_ids"].shape[1] + 1, dtype=torch.long),
    }
    model.backbone.next_logits(more, cache)
    assert cache.recorder is None and torch.equal(reading.weighted, once)


@pytest.mark.parametrize("explain", ["ablations", 1, None])
def test_another_way_to_explain_is_refused(
    model: tasm.Model, memory: tasm.TaskMemory, explain: Any
) -> None:
    with pytest.raises(InputError, match="explain is"):
        model.ask(memory, question="Which?", explain=explain)


def test_a_changed_memory_is_explained_by_what_it_holds_now(model: tasm.Model) -> None:
    rows = demonstrations()
    first = tasm.build(model, rows[:3], recipe="h2o", core="60%", mode="independent", notice=None)
    second = tasm.build(model, rows[3:], recipe="h2o", core="60%", mode="independent", notice=None)
    both = tasm.merge(model, [first, second])
    fewer = tasm.remove(both, model, [rows[1].id])
    for memory in (both, fewer):
        (answer,) = model.ask_all(memory, queries()[:1], max_new_tokens=2, explain="ablation")
        shares = answer.demonstrations
        assert [one.id for one in shares] == [one.id for one in memory.demonstrations]
        assert sum(one.weight for one in shares) == pytest.approx(1)
        assert all(one.weight > 0 and one.effect is not None for one in shares)
