"""Distributions along an answer: against plain forward passes, and divergences by hand."""

import math

import pytest
import torch

from tasm.answer import ask_all, full_context
from tasm.bench.sources import read_episode
from tasm.check.fidelity import (
    agreement,
    answer_distributions,
    mean_js,
    prompt_distributions,
)


def test_divergence_by_hand():
    sure = torch.tensor([[0.0, -math.inf]])
    other = torch.tensor([[-math.inf, 0.0]])
    even = torch.tensor([[0.5, 0.5]]).log()
    assert mean_js(sure, sure) == 0
    assert mean_js(sure, other) == pytest.approx(math.log(2))
    # middle (3/4, 1/4): half of 1·ln(4/3), half of ½·ln(2/3) + ½·ln 2
    by_hand = (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2
    assert mean_js(sure, even) == pytest.approx(by_hand)
    assert mean_js(torch.cat([sure, sure]), torch.cat([sure, even])) == pytest.approx(by_hand / 2)


def test_agreement_compares_words():
    assert agreement([" wren", "robin"], ["wren ", "Robin"]) == [1.0, 0.0]


def test_distributions_are_those_of_one_forward_pass(backbone, files):
    episode = read_episode(files / "demos.jsonl", files / "queries.jsonl")
    memory = full_context(backbone, episode.demonstrations)
    answers = [a.token_ids for a in ask_all(backbone, memory, episode.queries, max_new_tokens=5)]
    answers[1] = answers[1][:2]  # answers of different lengths share a batch
    found = answer_distributions(backbone, memory, episode.queries, answers, batch_size=2)
    for query, answer, distributions in zip(episode.queries, answers, found, strict=True):
        inputs = backbone.full_inputs(episode.demonstrations, query, layout=memory.layout)
        longer = torch.cat([inputs["input_ids"], torch.tensor([answer])], dim=1)
        ones = torch.ones_like(longer)
        rest = {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask")}
        if "mm_token_type_ids" in rest:
            pad = torch.zeros(1, len(answer), dtype=rest["mm_token_type_ids"].dtype)
            rest["mm_token_type_ids"] = torch.cat([rest["mm_token_type_ids"], pad], dim=1)
        with torch.inference_mode():
            logits = backbone.hf(input_ids=longer, attention_mask=ones, **rest).logits[0]
        plain = logits[-len(answer) - 1 :].float().log_softmax(-1)
        assert distributions.shape == plain.shape
        assert torch.allclose(distributions, plain, atol=2e-5)


def test_a_prompt_alone_gives_the_same(backbone, files):
    episode = read_episode(files / "demos.jsonl", files / "queries.jsonl")
    memory = full_context(backbone, episode.demonstrations)
    query, answer = episode.queries[0], (7, 8)
    inputs = backbone.full_inputs(episode.demonstrations, query, layout=memory.layout)
    alone = prompt_distributions(backbone, inputs, answer)
    (beside,) = answer_distributions(backbone, memory, [query], [answer])
    assert alone.shape == beside.shape and torch.allclose(alone, beside, atol=2e-5)
