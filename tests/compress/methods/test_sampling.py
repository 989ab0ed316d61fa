"""How much a layer hangs on single tokens: the record against plain loops, the budget by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tasm.compress.parts.budgets.neyman import Neyman
from tasm.compress.recipes.table import find_recipe
from tasm.compress.records.sampling import SamplingSpread, Spread
from tasm.errors import ModelError
from tests.compress.examples import evidence, table
from tests.compress.methods.capture import stock_attention, stock_model
from tests.compress.methods.examples import stage
from tests.compress.test_records import chosen_rows, record
from tests.compress.tiny_backbone import build_tiny, tiny_backbone


@pytest.mark.parametrize(
    ("rule", "last", "step"),
    [("all", None, 3), ("every:5", "predictions", 3), ("images", "all", 1)],
)
def test_spread_against_loops(rule: str, last: str | None, step: int) -> None:
    backbone, seeds = tiny_backbone(), [1, 2, 3]
    transcript = backbone.transcript(seeds)
    wanted = SamplingSpread(rule, last)
    recorder = record(backbone, transcript, (wanted,), step)
    whole = build_tiny(backbone, transcript, recipe=find_recipe("full"))
    attention = stock_attention(backbone, stock_model(), seeds).float()
    of = transcript.demonstration.tolist()
    for layer in range(3):
        rows = chosen_rows(transcript, (last or rule) if layer == 2 else rule)
        core = whole.core[layer]
        assert core is not None
        expected = torch.zeros(4, 16, 16)
        for head in range(4):
            values = core.values[head // 2].float()
            for row in rows:
                weights = attention[layer][head, row]
                output = weights @ values
                for token in range(row + 1):
                    if of[token] != of[row]:
                        away = values[token] - output
                        expected[head] += weights[token] ** 2 * torch.outer(away, away)
        found = recorder.layer(layer)[wanted]
        assert found.rows == len(rows)
        torch.testing.assert_close(found.mean, expected / len(rows), atol=1e-6, rtol=1e-3)


class Attention(nn.Module):
    """A layer of which only the output projection counts: each of two heads to its own half."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.self_attn = nn.Module()
        self.self_attn.o_proj = nn.Linear(4, 4, bias=False)
        self.self_attn.o_proj.weight.data = factor * torch.eye(4)


def layer(number: int, products: Tensor, factor: float, entries: int = 40) -> Any:
    tokens = table([2] * entries, [0] * entries)
    held = {Neyman().records[0]: Spread(products, 2)}
    zeros = torch.zeros(1, entries, 2)
    one = evidence(zeros + 1, zeros, tokens, layer=number, records=held, module=Attention(factor))
    return one


def variances() -> list[Any]:
    """V = 1·(3 + 1)/2 = 2, then 4·(3 + 1)/2 = 8, then 0."""
    heads = torch.stack([torch.diag(torch.tensor([2.0, 1.0])), torch.diag(torch.tensor([1.0, 0]))])
    return [layer(0, heads, 1.0), layer(1, heads, 2.0), layer(2, 0 * heads, 1.0)]


def counts(found: list[Tensor | None]) -> list[int]:
    return [0 if one is None else int(one[0]) for one in found]


def test_shares_follow_the_variance() -> None:
    one = stage(list(variances()), [torch.zeros(1, 40)] * 3, 10)
    # 30 tokens: a tenth of them evenly, the rest as 2 : 8 : 0.
    assert counts(Neyman(power=1, floor=0.1).allocate(one)) == [6, 23, 1]
    assert one.notes["layer_shares"] == [0.2133, 0.7533, 0.0333]
    # Neyman's own power: 27 as √2 : √8 : 0 = 1 : 2 : 0.
    assert counts(Neyman(power=0.5, floor=0.1).allocate(one)) == [10, 19, 1]


def test_core_and_bank_together_are_divided() -> None:
    one = stage(list(variances()), [torch.zeros(1, 40)] * 3, 10)
    budget = Neyman(power=1, floor=0.1)
    core = budget.allocate(one)
    # 60 tokens of both: 12.8 : 45.2 : 2, but a layer holds 40; the 5.2 go to the others.
    bank = budget.allocate_bank(one, core, 10)
    both = [kept + more for kept, more in zip(counts(core), counts(bank), strict=True)]
    assert both == [17, 40, 3]


def test_nothing_measured_is_divided_evenly() -> None:
    heads = torch.zeros(2, 2, 2)
    one = stage([layer(0, heads, 1.0), layer(1, heads, 1.0)], [torch.zeros(1, 40)] * 2, 10)
    assert counts(Neyman().allocate(one)) == [10, 10]


class Packed(nn.Module):
    """Holds a matrix as a quantised layer does: its own layout, and only calls tell what it is."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(matrix.flatten().half(), requires_grad=False)
        self.bias = nn.Parameter(torch.arange(4.0))

    def forward(self, given: Tensor) -> Tensor:
        return given @ self.weight.float().view(4, 4).T + self.bias


class Adapted(nn.Linear):
    """A matrix of which half lies in an adapter, as a named LoRA's does."""

    def forward(self, given: Tensor) -> Tensor:
        return super().forward(given) + given @ self.weight.T


@pytest.mark.parametrize("kind", ["packed", "adapted"])
def test_any_projection_is_judged_by_what_it_does(kind: str) -> None:
    matrix = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    layers, changed = variances(), variances()
    layers[1].module.self_attn.o_proj.weight.data = matrix
    if kind == "packed":
        changed[1].module.self_attn.o_proj = Packed(matrix)
    else:
        changed[1].module.self_attn.o_proj = Adapted(4, 4, bias=False)
        changed[1].module.self_attn.o_proj.weight.data = matrix / 2
    shares = [
        Neyman()._wishes(stage(some, [torch.zeros(1, 40)] * 3, 10)) for some in (layers, changed)
    ]
    assert shares[0] == pytest.approx(shares[1], rel=1e-2)
    assert shares[0][0] == pytest.approx(shares[1][0], rel=1e-2) and shares[0][0] > 0.02


def test_a_layer_without_a_projection_is_named() -> None:
    layers = variances()
    layers[1] = replace(layers[1], module=nn.Identity())
    one = stage(list(layers), [torch.zeros(1, 40)] * 3, 10)
    with pytest.raises(ModelError, match="Layer 1, a Identity, has no output projection"):
        Neyman().allocate(one)


def test_chunks_without_a_row_add_nothing() -> None:
    backbone = tiny_backbone()
    transcript = backbone.transcript([1, 2])
    wanted = SamplingSpread("spread:1")  # the last row alone, so the first chunk has none
    recorder = record(backbone, transcript, (wanted,), 1)
    alone = SamplingSpread("last:1")
    other = record(backbone, transcript, (alone,), 1)
    for number in range(3):
        assert recorder.layer(number)[wanted].rows == 1
        torch.testing.assert_close(
            recorder.layer(number)[wanted].products, other.layer(number)[alone].products
        )
