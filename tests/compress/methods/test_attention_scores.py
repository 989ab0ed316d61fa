"""Scores made of attention, against the stock model's `output_attentions` and plain loops.

Two KV heads of two query heads each, so that the mean over a group shows.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from tasm.compress.recipes.table import find_recipe
from tests.compress.methods.capture import captured, stock_attention, stock_model
from tests.compress.tiny_backbone import TinyBackbone, tiny_backbone

SEEDS = [1, 2, 3]
IMAGE, ANSWER = 3, 4


@pytest.fixture(scope="module")
def backbone() -> TinyBackbone:
    return tiny_backbone()


@pytest.fixture(scope="module")
def model() -> Any:
    return stock_model()


@pytest.fixture(scope="module")
def attention(backbone: TinyBackbone, model: Any) -> Tensor:
    return stock_attention(backbone, model, SEEDS)


@pytest.fixture(scope="module")
def again(backbone: TinyBackbone, model: Any) -> list[Tensor]:
    """Every demonstration once more after all of them."""
    return [stock_attention(backbone, model, SEEDS, seed) for seed in SEEDS]


def group_mean(weights: Tensor) -> list[list[float]]:
    """(query_heads, tokens) to one list a KV head: query heads 0 and 1, then 2 and 3."""
    return [((weights[2 * h] + weights[2 * h + 1]) / 2).tolist() for h in range(2)]


def smooth(values: list[float], window: int) -> list[float]:
    reach, result = window // 2, []
    for i in range(len(values)):
        near = values[max(0, i - reach) : i + reach + 1]
        result.append(sum(near) / len(near))
    return result


def check(found: Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), atol=2e-6, rtol=2e-5)


def test_snapkv(backbone: TinyBackbone, attention: Tensor) -> None:
    tokens, core = attention.shape[-1], 30
    stage = captured(backbone, "snapkv", SEEDS, core=str(core))
    for layer in range(3):
        heads = group_mean(attention[layer, :, -32:].sum(1))
        largest = max(value for head in heads for value in smooth(head, 5))
        expected = [
            [
                value + (largest + 1 if i >= tokens - core // 2 else 0)
                for i, value in enumerate(smooth(head, 5))
            ]
            for head in heads
        ]
        check(stage.scores[layer], expected)


def test_h2o_orders_by_attention_and_recency(backbone: TinyBackbone, attention: Tensor) -> None:
    tokens = attention.shape[-1]
    stage = captured(backbone, "h2o", SEEDS, core="30")
    for layer in range(3):
        for head, mass in enumerate(group_mean(attention[layer].sum(1))):
            heavy = sorted(range(tokens), key=lambda i: -mass[i])
            kept = set(heavy[:10]) | set(range(tokens - 10, tokens))
            score = stage.scores[layer][head]
            order = score.argsort(descending=True, stable=True).tolist()
            assert set(order[: len(kept)]) == kept


@pytest.mark.parametrize(("share", "heavy_ones", "recent_ones"), [(0.0, 20, 0), (0.25, 15, 5)])
def test_h2o_with_another_share_for_the_recent(
    backbone: TinyBackbone, attention: Tensor, share: float, heavy_ones: int, recent_ones: int
) -> None:
    tokens = attention.shape[-1]
    h2o = find_recipe("h2o").with_settings(scorer={"recent": share})
    stage = captured(backbone, h2o, SEEDS, core="30")
    for layer in range(3):
        for head, mass in enumerate(group_mean(attention[layer].sum(1))):
            heavy = sorted(range(tokens), key=lambda i: -mass[i])
            kept = {*heavy[:heavy_ones], *range(tokens - recent_ones, tokens)}
            order = stage.scores[layer][head].argsort(descending=True, stable=True).tolist()
            assert set(order[: len(kept)]) == kept


def test_fastv_takes_the_second_layers_scores(backbone: TinyBackbone, attention: Tensor) -> None:
    stage = captured(backbone, "fastv", SEEDS, core="40")
    roles = backbone.transcript(SEEDS).roles.tolist()
    images = [i for i, role in enumerate(roles) if role == IMAGE]
    texts = [i for i, role in enumerate(roles) if role != IMAGE]
    for layer, source in [(0, 0), (1, 1), (2, 1)]:
        scores = stage.scores[layer]
        for head, mass in enumerate(group_mean(attention[source, :, -1])):
            expected = torch.tensor([mass[i] for i in images])
            torch.testing.assert_close(scores[head, images], expected, atol=2e-6, rtol=2e-5)
            assert scores[head, texts].min() > scores[:, images].max()


def test_sparsevlm_raters(backbone: TinyBackbone, attention: Tensor) -> None:
    stage = captured(backbone, "sparsevlm", SEEDS, core="40")
    roles = backbone.transcript(SEEDS).roles.tolist()
    images = [i for i, role in enumerate(roles) if role == IMAGE]
    text = [i for i, role in enumerate(roles) if role != IMAGE]
    for layer in range(3):
        mean = attention[layer].mean(0)
        looks = {row: sum(float(mean[row, i]) for i in images) for row in text}
        raters = [row for row in text if looks[row] >= sum(looks.values()) / len(looks)]
        assert 0 < len(raters) < len(text)
        heads = group_mean(attention[layer, :, raters].sum(1))
        expected = [[head[i] for i in images] for head in heads]
        check(stage.scores[layer][:, images], expected)


def test_zipvl_probes(backbone: TinyBackbone, attention: Tensor) -> None:
    tokens = attention.shape[-1]
    stage = captured(backbone, "zipvl", SEEDS, core="40")
    probes = [row for row in range(tokens) if (row + 1) % 8 == 0]
    for layer in range(3):
        heads = group_mean(attention[layer, :, probes].sum(1))
        seen = [max(1, sum(row >= i for row in probes)) for i in range(tokens)]
        expected = [[mass / seen[i] for i, mass in enumerate(head)] for head in heads]
        check(stage.scores[layer], expected)


def test_ems_global_and_local(backbone: TinyBackbone, attention: Tensor) -> None:
    tokens = attention.shape[-1]
    stage = captured(backbone, "ems", SEEDS, core="40")
    for layer in range(3):
        everywhere = group_mean(attention[layer].sum(1))
        local = group_mean(attention[layer, :, -32:].sum(1))
        expected = []
        for head in range(2):
            first = smooth([mass / (tokens - i) for i, mass in enumerate(everywhere[head])], 5)
            second = smooth([mass / min(32, tokens - i) for i, mass in enumerate(local[head])], 5)
            factor = sum(second) / sum(first)
            expected.append([factor * a + b for a, b in zip(first, second, strict=True)])
        check(stage.scores[layer], expected)


def test_look_m_text_first(backbone: TinyBackbone, attention: Tensor) -> None:
    tokens, core = attention.shape[-1], 40
    stage = captured(backbone, "look-m", SEEDS, core=str(core))
    roles = backbone.transcript(SEEDS).roles.tolist()
    for layer in range(3):
        expected = []
        for mass in group_mean(attention[layer].sum(1)):
            most = max(mass)
            expected.append(
                [
                    value
                    + (most if roles[i] != IMAGE else 0)
                    + (2 * most + 1 if i >= tokens - core // 10 else 0)
                    for i, value in enumerate(mass)
                ]
            )
        check(stage.scores[layer], expected)


def test_kvzip_largest_attention_when_read_again(
    backbone: TinyBackbone, again: list[Tensor]
) -> None:
    stage = captured(backbone, "kvzip-tuned", SEEDS, core="40")
    tokens = stage.evidence[0].entries
    for layer in range(3):
        expected = [
            [
                max(
                    float(one[layer, [2 * head, 2 * head + 1], tokens:, token].max())
                    for one in again
                )
                for token in range(tokens)
            ]
            for head in range(2)
        ]
        check(stage.scores[layer], expected)


def test_emloc_answers_when_asked_again(backbone: TinyBackbone, again: list[Tensor]) -> None:
    stage = captured(backbone, "emloc", SEEDS, core="40")
    tokens = stage.evidence[0].entries
    roles = backbone.transcript(SEEDS).roles.tolist()
    for layer in range(3):
        mass = [[0.0] * tokens for _ in range(2)]
        for seed, one in zip(SEEDS, again, strict=True):
            asked = backbone.transcript([*SEEDS, seed]).roles.tolist()
            answers = [i for i in range(tokens, len(asked)) if asked[i] == ANSWER]
            assert len(answers) == 2
            # From the token that says the answer's first one through the one that ends the turn.
            rows = [answers[0] - 1, *answers, answers[1] + 1]
            for head, values in enumerate(group_mean(one[layer, :, rows].sum(1))):
                mass[head] = [a + b for a, b in zip(mass[head], values, strict=False)]
        expected = [
            [v + (100 if roles[i] == ANSWER else 0) for i, v in enumerate(smooth(head, 5))]
            for head in mass
        ]
        torch.testing.assert_close(
            stage.scores[layer], torch.tensor(expected), atol=2e-5, rtol=1e-5
        )
