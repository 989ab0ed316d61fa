"""Intervals against a plain loop, and against what is known without computing."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasm.bench.intervals import interval, paired_interval


def plain_bootstrap(groups, resamples, seed):
    """The two-stage bootstrap written out: seeds first, then the queries of each drawn seed."""
    chance = random.Random(seed)
    means = []
    for _ in range(resamples):
        values = []
        for _ in groups:
            group = chance.choice(groups)
            values += [chance.choice(group) for _ in group]
        means.append(sum(values) / len(values))
    means.sort()
    return means[round(0.025 * (resamples - 1))], means[round(0.975 * (resamples - 1))]


def test_agrees_with_a_plain_loop():
    chance = random.Random(1)
    rates = (0.2, 0.9, 0.6, 0.5, 0.7)
    groups = [[float(chance.random() < rate) for _ in range(30)] for rate in rates]
    found = interval(groups, resamples=20_000)
    low, high = plain_bootstrap(groups, 20_000, seed=2)
    assert found.mean == pytest.approx(sum(map(sum, groups)) / 150)
    assert found.low == pytest.approx(low, abs=0.015)
    assert found.high == pytest.approx(high, abs=0.015)


def test_groups_of_different_sizes_agree_with_a_plain_loop():
    chance = random.Random(3)
    groups = [[float(chance.random() < 0.5) for _ in range(size)] for size in (3, 40, 11)]
    found = interval(groups, resamples=20_000)
    low, high = plain_bootstrap(groups, 20_000, seed=4)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03)


def test_seeds_that_differ_widen_the_interval():
    alike = [[0.0, 1.0] * 20 for _ in range(10)]
    unlike = [[float(seed < 5)] * 40 for seed in range(10)]
    width = {name: interval(groups) for name, groups in (("a", alike), ("u", unlike))}
    assert width["a"].mean == width["u"].mean == 0.5
    assert width["u"].high - width["u"].low > 3 * (width["a"].high - width["a"].low)


def test_one_seed_leaves_the_queries_as_the_source_of_chance():
    found = interval([[0.0] * 50 + [1.0] * 50])
    # the standard error of a mean of 100 fair coins is 0.05
    assert found.low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.02)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.02)


def test_pairing_removes_what_both_share():
    hard = [[float((seed + query) % 2) for query in range(40)] for seed in range(10)]
    found = paired_interval(hard, hard)
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_pairing_refuses_other_queries():
    with pytest.raises(ValueError, match="same seeds and queries"):
        paired_interval([[1.0, 0.0]], [[1.0]])


def test_no_value_is_refused():
    with pytest.raises(ValueError, match="at least one value"):
        interval([[], []])


@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=8), min_size=1, max_size=6),
    st.floats(-3, 3),
)
def test_bounds_and_shifts(groups, shift):
    found = interval(groups, resamples=50)
    values = [value for group in groups for value in group]
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    moved = interval([[value + shift for value in group] for group in groups], resamples=50)
    assert moved.low == pytest.approx(found.low + shift, abs=1e-6)
    assert moved.high == pytest.approx(found.high + shift, abs=1e-6)
