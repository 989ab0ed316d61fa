"""The gate's numbers against plain Python, worked out by the definitions."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from tasm.backbone.attention.segment import UNUSED
from tasm.errors import InputError
from tasm.memory.retrieval.gate import GateSettings
from tasm.memory.retrieval.gates import gate_divergence, js_divergence
from tasm.memory.retrieval.looking import core_distribution


def softmax(logits: list[float]) -> list[float]:
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def plain_js(first: list[float], second: list[float]) -> float:
    def kl(p: list[float], q: list[float]) -> float:
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)

    mean = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    return kl(first, mean) / 2 + kl(second, mean) / 2


def test_js_of_a_hand_computed_pair():
    # M = (0.375, 0.625): ½(½ ln(4/3) + ½ ln(4/5)) + ½(¼ ln(2/3) + ¾ ln(6/5))
    expected = 0.5 * (0.5 * math.log(4 / 3) + 0.5 * math.log(4 / 5)) + 0.5 * (
        0.25 * math.log(2 / 3) + 0.75 * math.log(6 / 5)
    )
    got = js_divergence(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75]))
    assert float(got) == pytest.approx(expected, abs=1e-7)
    assert expected == pytest.approx(0.0338, abs=1e-4)


def test_js_of_disjoint_distributions_is_the_logarithm_of_two():
    got = js_divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert float(got) == pytest.approx(math.log(2), abs=1e-6)


def test_js_with_zero_probabilities_a_single_token_and_no_token():
    assert float(js_divergence(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))) == 0.0
    assert float(js_divergence(torch.ones(1), torch.ones(1))) == 0.0
    assert float(js_divergence(torch.empty(0), torch.empty(0))) == 0.0


def test_js_sees_a_small_difference_that_float32_entropies_would_lose():
    tokens, shift = 4096, 1e-5
    even = torch.full((tokens,), 1 / tokens)
    moved = even.clone()
    moved[0] += shift
    moved[1] -= shift
    expected = plain_js(even.double().tolist(), moved.double().tolist())
    assert float(js_divergence(even, moved)) == pytest.approx(expected, rel=0.2)


pairs = st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)), min_size=1, max_size=12)


@given(pairs.filter(lambda rows: min(map(sum, zip(*rows, strict=True))) > 1e-3))
def test_js_agrees_with_plain_python(weights):
    first, second = ([w / sum(side) for w in side] for side in zip(*weights, strict=True))
    got = float(js_divergence(torch.tensor(first), torch.tensor(second)))
    assert got == pytest.approx(plain_js(first, second), abs=2e-6)
    assert 0 <= got <= math.log(2) + 1e-6


def test_core_distribution_and_divergence_of_two_heads_by_hand():
    """One row, two KV heads of two query heads each, three core tokens, head size 2."""
    query = [[[1.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [0.5, -1.0]]]
    keys = [[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[2.0, 0.0], [0.0, 0.5], [1.0, -1.0]]]
    bias = [[0.0, math.log(3.0), 0.0], [math.log(2.0), 0.0, 0.0]]
    reference = [[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]
    scaling = 0.5
    expected, divergences = [], []
    for head in range(2):
        shares = []
        for q in query[head]:
            logits = [
                scaling * (q[0] * k[0] + q[1] * k[1]) + b
                for k, b in zip(keys[head], bias[head], strict=True)
            ]
            shares.append(softmax(logits))
        mean = [(a + b) / 2 for a, b in zip(*shares, strict=True)]
        expected.append(mean)
        divergences.append(plain_js(mean, reference[head]))
    got = core_distribution(
        torch.tensor(query)[None], torch.tensor(keys), scaling, torch.tensor(bias)
    )
    torch.testing.assert_close(got, torch.tensor(expected)[None])
    divergence = gate_divergence(got, torch.tensor(reference)[None])
    assert float(divergence) == pytest.approx(sum(divergences) / 2, abs=1e-6)


def test_rows_of_a_batch_do_not_touch_one_another():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 2, 4, 8, generator=generator)
    keys = torch.randn(2, 5, 8, generator=generator)
    together = core_distribution(query, keys, 0.3)
    alone = torch.cat([core_distribution(row[None], keys, 0.3) for row in query])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together.sum(-1), torch.ones(3, 2))


def test_hidden_slots_get_nothing_and_an_empty_head_diverges_from_nothing():
    keys = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))
    bias = torch.tensor([[0.0, 0.0, UNUSED, UNUSED], [UNUSED] * 4])
    query = torch.ones(1, 2, 2, 8)
    shares = core_distribution(query, keys, 1.0, bias)
    assert shares[0, 0, 2:].tolist() == [0.0, 0.0]
    torch.testing.assert_close(shares.sum(-1), torch.tensor([[1.0, 0.0]]))
    assert float(gate_divergence(shares, shares)) == 0.0
    assert core_distribution(query, keys[:, :0], 1.0).shape == (1, 2, 0)


def test_half_precision_is_computed_in_float32():
    generator = torch.Generator().manual_seed(2)
    query = torch.randn(1, 2, 2, 16, generator=generator).bfloat16()
    keys = torch.randn(2, 50, 16, generator=generator).bfloat16()
    got = core_distribution(query, keys, 1.0)
    exact = core_distribution(query.double().float(), keys.double().float(), 1.0)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, exact)


@pytest.mark.parametrize(
    "settings",
    [{"kind": "jss"}, {"epsilon": -0.1}, {"epsilon": "auto"}, {"top_k": -1}, {"largest_share": 2}],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError, match="gate"):
        GateSettings(**settings)


def test_how_many_tokens_a_search_brings():
    assert GateSettings().tokens_to_retrieve(2000) == 96
    assert GateSettings().tokens_to_retrieve(450) == 45
    assert GateSettings().tokens_to_retrieve(3) == 1
    assert GateSettings(largest_share=1.0).tokens_to_retrieve(450) == 96
