"""Scores made of keys, values and query moments, worked out in plain Python."""

import math

import pytest
import torch

from tasm.compress.parts.scorers.alternating import LeastRedundant
from tasm.compress.parts.scorers.expected_attention import ExpectedAttention
from tasm.compress.parts.scorers.heavy_hitters import HeavyHitters
from tasm.compress.parts.scorers.keys import KeyDifference, KeyNorm
from tasm.compress.records.queries import Moments, QueryMoments
from tests.compress.examples import evidence, table
from tests.compress.methods.examples import received

KEYS = [
    [[3.0, 4.0], [1.0, 0.0], [0.0, 2.0], [2.0, 2.0]],
    [[0.0, 1.0], [6.0, 8.0], [-1.0, 0.0], [1.0, -1.0]],
]
VALUES = [
    [[1.0, 0.0], [3.0, 4.0], [0.0, 2.0], [1.0, 1.0]],
    [[0.0, 5.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0]],
]
TEXT = table([0, 2, 2, 4], [-1, 0, 0, 0], positions=[0, 0, 0, 0])


def test_key_norm() -> None:
    found = KeyNorm().score(evidence(KEYS, VALUES, TEXT))
    expected = [[-5.0, -1.0, -2.0, -math.sqrt(8)], [-1.0, -10.0, -1.0, -math.sqrt(2)]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_keydiff() -> None:
    found = KeyDifference().score(evidence(KEYS, VALUES, TEXT))
    for head in range(2):
        units = [[x / math.hypot(*key) for x in key] for key in KEYS[head]]
        anchor = [sum(unit[d] for unit in units) / 4 for d in range(2)]
        length = math.hypot(*anchor)
        expected = [
            -sum(a * b for a, b in zip(unit, anchor, strict=True)) / length for unit in units
        ]
        torch.testing.assert_close(found[head], torch.tensor(expected))


def turned(vector: list[float], quarters: int) -> list[float]:
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters % 4]
    return [cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]]


@pytest.mark.parametrize("ahead", [1, 2])
def test_expected_attention(ahead: int) -> None:
    # Two query heads a KV head; the next positions are 1 and 2 (a quarter and a half turn).
    queries = [
        [[1.0, 0.0], [3.0, 1.0]],
        [[0.0, 2.0], [1.0, 1.0]],
        [[2.0, 1.0], [0.0, -1.0]],
        [[1.0, 1.0], [2.0, 3.0]],
    ]
    stacked = torch.tensor(queries)
    moments = Moments(2, stacked.sum(1), stacked.transpose(1, 2) @ stacked)
    scorer = ExpectedAttention(ahead=ahead, epsilon=0.1)
    assert scorer.records == (QueryMoments("text"),)
    one = evidence(KEYS, VALUES, TEXT, records={QueryMoments("text"): moments}, scaling=0.5)
    found = scorer.score(one)
    for head in range(2):
        shares = [0.0] * 4
        for number in (2 * head, 2 * head + 1):
            # The average rotation is linear: rotate each query to every position and average.
            moved = [
                [sum(turned(q, 1 + step)[d] for step in range(ahead)) / ahead for d in range(2)]
                for q in queries[number]
            ]
            mean = [(moved[0][d] + moved[1][d]) / 2 for d in range(2)]
            logits = []
            for key in KEYS[head]:
                along = [sum(k * (m[d] - mean[d]) for d, k in enumerate(key)) for m in moved]
                first = sum(k * m for k, m in zip(key, mean, strict=True))
                variance = (along[0] ** 2 + along[1] ** 2) / 2
                logits.append(0.5 * first + 0.25 * variance / 2)
            total = sum(math.exp(x) for x in logits)
            shares = [s + math.exp(x) / total / 2 for s, x in zip(shares, logits, strict=True)]
        expected = [
            (share + 0.1) * math.hypot(*value)
            for share, value in zip(shares, VALUES[head], strict=True)
        ]
        torch.testing.assert_close(found[head], torch.tensor(expected))


def test_expected_attention_leaves_its_sinks_out_and_keeps_them() -> None:
    stacked = torch.tensor([[[1.0, 0.5], [0.0, -1.0]]] * 4)
    moments = Moments(2, stacked.sum(1), stacked.transpose(1, 2) @ stacked)
    scorer = ExpectedAttention(rows="all", sinks=2)
    assert scorer.records == (QueryMoments("after:2"),)
    one = evidence(KEYS, VALUES, TEXT, records={QueryMoments("after:2"): moments}, scaling=0.5)
    found = scorer.score(one)
    assert found[:, :2].min() > found[:, 2:].max()
    # The others' shares are those of a softmax among themselves.
    lengths = torch.tensor(VALUES).norm(dim=-1)[:, 2:]
    shares = found[:, 2:] / lengths - scorer.epsilon
    torch.testing.assert_close(shares.sum(1), torch.ones(2))


def test_h2o_ranks_and_sinks() -> None:
    mass = [[5.0, 1.0, 4.0, 2.0], [0.0, 9.0, 3.0, 4.0]]
    one = evidence(KEYS, VALUES, TEXT, records=received(mass))
    # Ranks by attention: 0 3 1 2 and 3 0 2 1; by recency 3 2 1 0. Twice the first against twice the
    # second and one.
    expected = [[-0.0, -5.0, -2.0, -1.0], [-6.0, -0.0, -3.0, -1.0]]
    torch.testing.assert_close(HeavyHitters().score(one), torch.tensor(expected))
    with_sinks = HeavyHitters(sinks=2).score(one)
    assert with_sinks.argsort(dim=1, descending=True, stable=True)[:, :2].tolist() == [[0, 1]] * 2


def test_tome_halves() -> None:
    # Index 1 and 3 are B, 0 and 2 are A.
    found = LeastRedundant().score(evidence(KEYS, VALUES, TEXT))
    for head in range(2):

        def cosine(i: int, j: int, head: int = head) -> float:
            first, second = KEYS[head][i], KEYS[head][j]
            product = sum(a * b for a, b in zip(first, second, strict=True))
            return product / math.hypot(*first) / math.hypot(*second)

        expected = [
            -max(cosine(0, 1), cosine(0, 3)),
            3 - max(cosine(1, 0), cosine(1, 2)),
            -max(cosine(2, 1), cosine(2, 3)),
            3 - max(cosine(3, 0), cosine(3, 2)),
        ]
        torch.testing.assert_close(found[head], torch.tensor(expected))
