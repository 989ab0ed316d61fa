"""How many tokens every layer keeps, worked out by hand."""

import math
from typing import Any

import pytest
import torch

import tasm
from tasm.compress.parts.budgets.dense_first import DenseFirst
from tasm.compress.parts.budgets.mass import ImportanceMass
from tasm.compress.parts.budgets.pyramid import Pyramid
from tasm.compress.parts.budgets.shares import counts_by_layer
from tasm.compress.parts.budgets.variance import InverseVariance
from tests.compress.examples import evidence, table
from tests.compress.methods.examples import received, stage
from tests.compress.tiny_backbone import rows, tiny_backbone


def layer(entries: int, number: int, mass: Any = None, always: int = 0) -> Any:
    tokens = table(
        [0] * always + [2] * (entries - always), [-1] * always + [0] * (entries - always)
    )
    values = torch.zeros(2, entries, 2)
    records = received(mass) if mass is not None else None
    return evidence(values + 1, values, tokens, layer=number, layers=4, records=records)


def plain(layers: int, entries: int, tokens: int, always: int = 0) -> Any:
    held = [layer(entries, number, always=always) for number in range(layers)]
    return stage(held, [torch.zeros(2, entries)] * layers, tokens)


def counts(found: list[Any]) -> list[list[int] | None]:
    return [None if one is None else one.tolist() for one in found]


def test_pyramid() -> None:
    # k = 20, β = 4: from 35 down to 5 over four layers.
    assert counts(Pyramid(beta=4).allocate(plain(4, 100, 20))) == [
        [35, 35], [25, 25], [15, 15], [5, 5]
    ]  # fmt: skip
    # The literal β = 20: 39, 27, 13, 1 (39, 26⅓, 13⅔, 1; the largest fraction rounds up).
    assert counts(Pyramid().allocate(plain(4, 100, 20))) == [[39] * 2, [26] * 2, [14] * 2, [1] * 2]


def test_pyramid_keeps_what_must_stay_and_spends_the_rest() -> None:
    found = [one[0] for one in counts(Pyramid(beta=4).allocate(plain(4, 30, 20, always=8)))]
    assert max(found) == 30 and min(found) == 8 and sum(found) == 80
    assert found == sorted(found, reverse=True)


def test_dense_first() -> None:
    # 4 layers of 20: 80. Two dense layers of 12 take 24; the other two share 56, but hold 12.
    assert counts(DenseFirst(2).allocate(plain(4, 40, 20))) == [
        [40] * 2,
        [14] * 2,
        [13] * 2,
        [13] * 2,
    ]
    short = plain(4, 20, 12)
    assert counts(DenseFirst(1).allocate(short)) == [[20] * 2, [10] * 2, [9] * 2, [9] * 2]
    assert short.notes["dense_layers"] == [0]


def test_dense_ends() -> None:
    # 4 layers of 30 give 120; three dense ones of 20 are 60, the last layer has what is left.
    one = plain(4, 20, 30)
    DenseFirst(2, last=1).allocate(one)
    assert one.notes["dense_layers"] == [0, 1, 3]
    less = plain(4, 20, 13)
    assert counts(DenseFirst(2, last=1).allocate(less)) == [[20] * 2, [11] * 2, [11] * 2, [10] * 2]
    assert less.notes["dense_layers"] == [0]
    none = plain(4, 20, 5)
    assert counts(DenseFirst(2, last=1).allocate(none)) == [[5] * 2] * 4
    assert none.notes["dense_layers"] == []


def test_zipvl_threshold() -> None:
    # Means of the sorted scores: .5 .3 .2 and .9 .05 .05 of the whole.
    first = [[0.6, 0.3, 0.1], [0.3, 0.3, 0.4]]
    second = [[0.9, 0.1, 0.0], [0.05, 0.05, 0.9]]
    sorted_first = [(0.6 + 0.4) / 2, (0.3 + 0.3) / 2, (0.1 + 0.3) / 2]
    assert sorted_first == pytest.approx([0.5, 0.3, 0.2])
    one = stage([layer(3, 0), layer(3, 1)], [first, second], 2)
    assert counts(ImportanceMass(0.79).allocate(one)) == [[2, 2], [1, 1]]
    assert counts(ImportanceMass(0.85).allocate(one)) == [[3, 3], [1, 1]]
    assert counts(ImportanceMass(0.975).allocate(one)) == [[3, 3], [3, 3]]


def test_zipvl_searches_its_threshold() -> None:
    first = [[0.6, 0.3, 0.1], [0.3, 0.3, 0.4]]
    second = [[0.9, 0.1, 0.0], [0.05, 0.05, 0.9]]
    one = stage([layer(3, 0), layer(3, 1)], [first, second], 2)
    assert counts(ImportanceMass().allocate(one)) == [[3, 3], [1, 1]]
    assert 0.8 <= one.notes["threshold"] <= 0.9


def test_d2o_variance() -> None:
    # The column sums of layer 0 are flat, those of layer 2 have one peak.
    masses = [
        [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]],
        [[2.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]],
        [[4.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]],
    ]
    held = [layer(4, number, mass) for number, mass in enumerate(masses)]
    # Ranks as scores, as H2O gives them: they say nothing about the variance.
    one = stage(held, [[[0.0, -2.0, -1.0, -3.0]] * 2] * 3, 2)
    found = [c[0] for c in counts(InverseVariance(dense=0, last=0).allocate(one))]
    variances = []
    for mass in masses:
        shares = [value / 8 for head in mass for value in head]
        mean = sum(shares) / 8
        variances.append(sum((share - mean) ** 2 for share in shares) / 8)
    mean = sum(variances) / 3
    spread = math.sqrt(sum((v - mean) ** 2 for v in variances) / 3)
    weights = [math.exp(-(v - mean) / spread) for v in variances]
    wishes = [6 * weight / sum(weights) for weight in weights]
    assert found == [c[0] for c in counts(counts_by_layer(one, dict(enumerate(wishes))))]
    assert found[0] > found[2] and sum(found) == 6


def test_d2o_keeps_the_ends_dense() -> None:
    held = [layer(4, number, [[float(number), 1.0, 1.0, 1.0]] * 2) for number in range(4)]
    one = stage(held, [torch.zeros(2, 4)] * 4, 3)
    assert counts(InverseVariance(dense=1, last=0).allocate(one))[0] == [4, 4]
    assert one.notes["dense_layers"] == [0]


def test_layers_that_do_not_compete() -> None:
    one = stage([None, layer(4, 1, [[1.0] * 4] * 2)], [None, torch.zeros(2, 4)], 2)
    for budget in (Pyramid(), DenseFirst(1), ImportanceMass(), InverseVariance(0, 0)):
        assert counts(budget.allocate(one)) == [None, [2, 2]]


@pytest.mark.parametrize("recipe", ["tasm", "tasm-compact", "tasm-spatial-merging"])
@pytest.mark.parametrize("core", ["4", "5"])
def test_the_smallest_budgets_leave_no_layer_with_nothing(recipe: str, core: str) -> None:
    memory = tasm.build(tiny_backbone(), rows(6), recipe=recipe, core=core, bank="0")
    for layer in memory.core:
        assert layer is not None and min(layer.counts) >= 4  # what stands before them


def test_a_layer_without_wishes_keeps_a_token() -> None:
    found = counts_by_layer(plain(3, 12, 4), {0: 0.0, 1: 1.0, 2: 0.0})
    assert counts(found) == [[1, 1], [10, 10], [1, 1]]
