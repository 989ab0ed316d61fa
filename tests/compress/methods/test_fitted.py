"""Fitted values and biases, against plain least squares and cases whose answer is known."""

import math
from typing import Any

import pytest
import torch

from tasm.compress.parts.reducers.attention_matching import AttentionMatching, matching_weights
from tasm.compress.parts.reducers.fitted import FittedValues, ridge
from tasm.compress.recipes.recipe import Part
from tasm.compress.recipes.table import find_recipe
from tasm.compress.records.references import Asked
from tests.compress.examples import evidence, table
from tests.compress.methods.examples import selection


@pytest.mark.parametrize(("rows", "tokens"), [(3, 7), (7, 3)])
def test_ridge_is_where_the_gradient_vanishes(rows: int, tokens: int) -> None:
    draw = torch.Generator().manual_seed(rows)
    given = torch.rand(rows, tokens, generator=draw)
    target, towards = torch.rand(rows, 2, generator=draw), torch.rand(tokens, 2, generator=draw)
    found = ridge(given[None].clone(), target[None], towards[None], 0.5, torch.tensor([tokens]))[0]
    penalty = 0.5 * float((given.T @ given).diagonal().mean())
    gradient = given.T @ (given @ found - target) + penalty * (found - towards)
    assert float(gradient.abs().max()) < 1e-5
    assert float((found - towards).abs().max()) > 1e-3


def test_nothing_asked_changes_nothing() -> None:
    towards, both = torch.ones(1, 2, 2), torch.tensor([2])
    for rows in (3, 0):
        given, target = torch.zeros(1, rows, 2), torch.ones(1, rows, 2)
        assert torch.equal(ridge(given, target, towards, 1.0, both), towards)


@pytest.mark.parametrize("rows", [3, 9])
def test_heads_of_other_lengths_are_solved_together(rows: int) -> None:
    draw = torch.Generator().manual_seed(rows)
    given, target = torch.rand(2, rows, 5, generator=draw), torch.rand(2, rows, 3, generator=draw)
    given[1, :, 2:] = 0  # padding
    towards = torch.rand(2, 5, 3, generator=draw)
    found = ridge(given.clone(), target, towards, 0.5, torch.tensor([5, 2]))
    for head, kept in enumerate((5, 2)):
        mine = given[head : head + 1, :, :kept], target[head : head + 1]
        alone = ridge(
            mine[0].clone(), mine[1], towards[head : head + 1, :kept], 0.5, torch.tensor([kept])
        )[0]
        assert torch.allclose(found[head, :kept], alone, atol=1e-5)
    assert torch.equal(found[1, 2:], towards[1, 2:])


def case(values: Any, shares: list[list[float]], part: Any) -> Any:
    """One head; row r pays `shares[r]` to its tokens, the rest to something worth nothing."""
    rows, tokens = len(shares), len(shares[0])
    asked = Asked(
        demonstration=torch.arange(rows),
        queries=torch.tensor(shares).log()[None, None],
        log_sum_exp=torch.zeros(1, 1, rows),
        rest=1 - torch.tensor(shares).sum(-1)[None, None],
        live=torch.zeros(1, 1, rows, 2),
        before=torch.full((rows,), tokens),
        scale=torch.ones(rows),
        scaling=1.0,
    )
    found = evidence(
        torch.eye(tokens)[None],
        torch.tensor(values)[None],
        table([2] * tokens, [0] * tokens, positions=[0] * tokens),
    )
    object.__setattr__(found, "replayed", {part.replayed[0]: asked})
    return found


def test_a_kept_value_takes_over_what_left() -> None:
    # Two tokens of equal weight, one is kept: its weight is 0.4 / 0.6, its value should give
    # 0.4·(1, 0) + 0.4·(0, 1); with next to no ridge it does.
    part = FittedValues(ridge=1e-6)
    one = case([[1.0, 0.0], [0.0, 1.0]], [[0.4, 0.4]], part)
    reduced = part.reduce(one, selection(2, [[0]]), torch.zeros(1, 2))
    torch.testing.assert_close(reduced.values[0, 0], torch.tensor([0.6, 0.6]), atol=1e-4, rtol=0)
    assert torch.equal(reduced.keys[0, 0], one.keys[0, 0]) and reduced.bias is None
    # A ridge as large as the diagonal goes half of the way.
    half = FittedValues(ridge=1.0).reduce(one, selection(2, [[0]]), torch.zeros(1, 2))
    torch.testing.assert_close(half.values[0, 0], torch.tensor([0.8, 0.3]), atol=1e-4, rtol=0)


def test_keeping_everything_leaves_values_alone() -> None:
    part = FittedValues()
    values = [[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]
    one = case(values, [[0.2, 0.3, 0.1], [0.1, 0.1, 0.5]], part)
    reduced = part.reduce(one, selection(3, [[0, 1, 2]]), torch.zeros(1, 3))
    torch.testing.assert_close(reduced.values[0], torch.tensor(values))


def test_matching_weights_keep_the_mass() -> None:
    # One of two equal keys stands for both; one key that has everything stands for itself.
    assert matching_weights(torch.tensor([[0.5], [0.5]]), 3.0).tolist() == pytest.approx([2.0])
    assert matching_weights(torch.tensor([[0.01]]), 3.0).tolist() == pytest.approx([math.exp(3)])
    draw = torch.Generator().manual_seed(1)
    shares = torch.rand(20, 3, generator=draw)
    free = torch.linalg.lstsq(shares, torch.ones(20, 1)).solution[:, 0]
    assert bool((free > 0.05).all())  # then non-negative least squares is least squares
    torch.testing.assert_close(matching_weights(shares, 3.0), free, atol=0.02, rtol=0)


def test_attention_matching_of_twins_is_exact() -> None:
    # Tokens 0 and 1 are twins in what is paid to them; 0 stays for both, with log 2 and their mean.
    part = AttentionMatching()
    one = case([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]], [[0.2, 0.2, 0.1], [0.1, 0.1, 0.6]], part)
    reduced = part.reduce(one, selection(3, [[0, 2]]), torch.zeros(1, 3))
    assert reduced.bias is not None
    torch.testing.assert_close(reduced.bias[0], torch.tensor([2.0, 1.0]).log(), atol=0.02, rtol=0)
    wanted = torch.tensor([[0.5, 0.5], [5.0, 5.0]])
    torch.testing.assert_close(reduced.values[0], wanted, atol=0.05, rtol=0)


def test_bytes_of_the_bias_are_counted() -> None:
    assert find_recipe("attention-matching").has_bias
    assert not find_recipe("compact").has_bias
    assert isinstance(find_recipe("compact").reducer, Part)
