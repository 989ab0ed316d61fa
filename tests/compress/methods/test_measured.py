"""Reference rows, error curves, effect scores and budgets, worked out in plain Python."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from tasm.compress.parts.attended import asked_of
from tasm.compress.parts.base import Scorer
from tasm.compress.parts.budgets.compromise import Compromise
from tasm.compress.parts.budgets.measured import Measured, error_curve, lower_hull, steepest
from tasm.compress.parts.budgets.pooled import Pooled
from tasm.compress.parts.scorers.effect import Effect
from tasm.compress.parts.scorers.reconstruction import Reconstruction
from tasm.compress.recipes.recipe import Part
from tasm.compress.recipes.table import find_recipe
from tasm.compress.records.received import Received
from tasm.compress.records.references import Asked, References
from tests.compress.examples import evidence, table
from tests.compress.methods import capture
from tests.compress.methods.capture import stock_attention, stock_model
from tests.compress.methods.examples import stage
from tests.compress.tiny_backbone import build_tiny, tiny_backbone

SHARES = [[0.1, 0.4, 0.2], [0.3, 0.05, 0.05]]  # what two rows pay to three tokens
VALUES = [[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]]
LIVE = [[0.1, 0.2], [0.3, 0.0]]  # Σ a·v over the rest, which gets 0.3 and 0.6


def asked(shares: list[list[float]] = SHARES, scale: float = 1.0, before: int = 99) -> Asked:
    """One head whose keys are unit vectors: the query holds the logarithms of its weights."""
    rows = len(shares)
    return Asked(
        queries=torch.tensor(shares).log()[None, None],
        log_sum_exp=torch.zeros(1, 1, rows),
        rest=1 - torch.tensor(shares).sum(-1)[None, None],
        live=torch.tensor(LIVE[:rows])[None, None],
        before=torch.full((rows,), before),
        scale=torch.full((rows,), scale),
        demonstration=torch.arange(rows),
        scaling=1.0,
    )


def layer(part: Any, rows: Asked, number: int = 0, factor: float = 1.0) -> Any:
    """Three tokens of three demonstrations; W_O multiplies by `factor`."""
    projection = nn.Linear(2, 2, bias=False)
    projection.weight.data = factor * torch.eye(2)
    found = evidence(
        torch.eye(3)[None],
        torch.tensor(VALUES)[None],
        table([2, 2, 2], [0, 1, 2], positions=[0, 0, 0]),
        layer=number,
        layers=2,
    )
    object.__setattr__(
        found, "module", SimpleNamespace(self_attn=SimpleNamespace(o_proj=projection))
    )
    object.__setattr__(found, "replayed", {part.replayed[0]: rows})
    return found


def output(shares: list[float], live: list[float], kept: list[int]) -> list[float]:
    """A row's attention output when only `kept` tokens and the rest remain."""
    mass = 1 - sum(shares) + sum(shares[j] for j in kept)
    return [(live[d] + sum(shares[j] * VALUES[j][d] for j in kept)) / mass for d in range(2)]


def squared(first: list[float], second: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(first, second, strict=True))


def test_weights_are_shares_of_everything() -> None:
    rows = asked()
    keys, index = torch.eye(3)[None], torch.tensor([[0, 1, 2]])
    torch.testing.assert_close(rows.weights(keys, index)[0, 0], torch.tensor(SHARES))
    seen = asked(before=2).weights(keys, index)[0, 0]
    assert seen[:, 2].tolist() == [0, 0] and seen[0, 1] == pytest.approx(0.4)


def test_error_curve() -> None:
    part = Measured()
    one = layer(part, asked(), factor=3.0)
    scores = torch.tensor([[0.1, 0.9, 0.5]])  # tokens in the order 1, 2, 0
    tokens, errors = error_curve(one, asked(), scores, torch.tensor([2.0, 4.0]))
    assert tokens == [1, 2, 3]
    for count, error in zip(tokens, errors, strict=True):
        kept = [1, 2, 0][:count]
        parts = [
            9 * squared(output(row, live, kept), output(row, live, [0, 1, 2])) / scale
            for row, live, scale in zip(SHARES, LIVE, (2.0, 4.0), strict=True)
        ]
        assert error == pytest.approx(sum(parts) / 2, abs=1e-6)


@pytest.mark.parametrize("norm", [1.0, 2.0, 3.0, "largest"])
@pytest.mark.parametrize("weighs", ["effect", "attention"])
def test_effect(norm: Any, weighs: Any) -> None:
    part = Effect(norm, weighs)
    found = part.score(layer(part, asked()))[0].tolist()
    for token in range(3):
        each = []
        for row, live in zip(SHARES, LIVE, strict=True):
            whole = output(row, live, [0, 1, 2])
            far = math.sqrt(squared(VALUES[token], whole)) if weighs == "effect" else 1.0
            each.append(row[token] * far)
        wanted = max(each) if norm == "largest" else (sum(e**norm for e in each) / 2) ** (1 / norm)
        assert found[token] == pytest.approx(wanted, rel=1e-4)


def test_tokens_go_where_the_error_falls_fastest() -> None:
    # Layer 0 falls by 3 a token, layer 1 by 1: of five, two are floors, three go to layer 0.
    curves = {0: ([1, 4], [9.0, 0.0]), 1: ([1, 4], [3.0, 0.0])}
    assert steepest(curves, 5, 1) == {0: 4.0, 1: 1.0}
    assert steepest(curves, 6, 1) == {0: 4.0, 1: 2.0}
    # A floor above the first point: the curve is cut there.
    assert steepest(curves, 5, 2) == {0: 3.0, 1: 2.0}
    # More than anybody asks for: evenly on top.
    assert steepest(curves, 10, 1) == {0: 5.0, 1: 5.0}
    assert steepest({0: ([1, 9], [0.0, 0.0]), 1: ([1, 9], [0.0, 0.0])}, 8, 1) == {0: 4.0, 1: 4.0}


def test_the_hull_looks_past_a_flat_start() -> None:
    # Nothing falls from 1 to 2, all of it from 2 to 3: together 2 a token, more than the other's 1.
    assert lower_hull([(1, 4.0), (2, 4.0), (3, 0.0)]) == [(1, 4.0), (3, 0.0)]
    curves = {0: ([1, 2, 3], [4.0, 4.0, 0.0]), 1: ([1, 3], [2.0, 0.0])}
    assert steepest(curves, 4, 1) == {0: 3.0, 1: 1.0}


@pytest.mark.parametrize(("relative", "wins"), [("nothing", 1), ("before", 0), ("after", 0)])
def test_relative_to_the_residual_stream(relative: Any, wins: int) -> None:
    # Layer 1 writes thirty times as much, to a stream a million times as large.
    part = Measured(relative, floor=0.0)
    first, second = asked(scale=1.0), asked(scale=1e6)
    held = [layer(part, first, 0, 1.0), layer(part, second, 1, 30.0)]
    if relative == "after":
        # What comes after layer 0 is as large as what comes before layer 1; nothing comes after 1.
        held = [layer(part, asked(scale=7.0), 0, 1.0), layer(part, asked(scale=1.0), 1, 0.01)]
    one = stage(held, [torch.tensor([[3.0, 2.0, 1.0]])] * 2, 2)
    found = [int(count[0]) for count in part.allocate(one) if count is not None]
    assert sum(found) == 4 and found[wins] == 3
    assert one.notes["layer_tokens"] == found


def test_pooled_threshold() -> None:
    # Eight scores, four may stay: 9, 8, 7 and 6, wherever they are; nobody is left with nothing.
    held = [layer(Measured(), asked(), 0), layer(Measured(), asked(), 1)]
    scores = [torch.tensor([[9.0, 8.0, 7.0]]), torch.tensor([[6.0, 1.0, 0.0]])]
    one = stage(held, scores, 2)
    assert [c.tolist() for c in Pooled().allocate(one) if c is not None] == [[3], [1]]
    assert [c.tolist() for c in Pooled("layer").allocate(one) if c is not None] == [[2], [2]]
    assert [c.tolist() for c in Pooled(heads="alike").allocate(one) if c is not None] == [[3], [1]]


def test_a_compromise_is_the_geometric_mean_of_two_budgets() -> None:
    part = Compromise(floor=0.0)
    curves, attention = part.replayed
    scores = [torch.tensor([[3.0, 2.0, 1.0]])] * 2
    held = []
    for number, mass in enumerate([[0.9, 0.8, 0.7], [0.1, 0.2, 0.3]]):
        one = layer(Measured(), asked(scale=10.0 ** (3 * number)), number)
        received = Received(torch.tensor([mass]), torch.ones(1, 3))
        object.__setattr__(one, "replayed", {curves: one.replayed[curves], attention: received})
        held.append(one)
    measured = [
        int(c[0]) for c in Measured(floor=0.0).allocate(stage(held, scores, 2)) if c is not None
    ]
    pooled = [3, 1]  # the threshold lies below all of the first layer's attention
    wanted = [math.sqrt(a * b) for a, b in zip(measured, pooled, strict=True)]
    one = stage(held, scores, 2)
    found = [int(count[0]) for count in part.allocate(one) if count is not None]
    assert sum(found) == 4
    assert abs(found[0] - 4 * wanted[0] / sum(wanted)) < 1
    assert one.notes["layer_tokens"] == found


def test_the_larger_of_two_attentions_each_as_a_part_of_its_heads() -> None:
    part = Reconstruction(among="both", last_rows="predictions")
    inside, whole = part.replayed
    assert (inside.among, inside.last_rows) == ("memory", "predictions")
    assert (whole.among, whole.last_rows) == ("everything", "all")
    masses = {
        inside: [[0.5, 0.3, 0.2], [2.0, 1.0, 1.0]],
        whole: [[0.02, 0.06, 0.02], [0.0, 0.0, 0.0]],
    }
    found = evidence(torch.ones(2, 3, 2), torch.ones(2, 3, 2), table([2] * 3, [0] * 3))
    received = {r: Received(torch.tensor(mass), torch.ones(1, 3)) for r, mass in masses.items()}
    object.__setattr__(found, "replayed", received)
    assert part.score(found)[0].tolist() == pytest.approx([0.5, 0.6, 0.2])
    assert part.score(found)[1].tolist() == pytest.approx([0.5, 0.25, 0.25])


def two_heads(scores: list[list[float]], tokens: int) -> Any:
    size = len(scores[0])
    held = evidence(torch.ones(2, size, 2), torch.ones(2, size, 2), table([2] * size, [0] * size))
    return stage([held], [torch.tensor(scores)], tokens)


def test_adakv_gives_heads_what_their_scores_ask_for_above_a_floor() -> None:
    one = two_heads([[9.0, 8.0, 7.0, 6.0], [1.0, 0.9, 0.8, 0.7]], 2)
    assert Pooled("layer").allocate(one)[0].tolist() == [3, 1]
    one = two_heads([[9.0, 8.0, 7.0, 6.0, 5.0, 4.0], [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]], 4)
    assert Pooled("layer", floor=0.5).allocate(one)[0].tolist() == [6, 2]


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "llava"])
@pytest.mark.parametrize("source", ["replay", "reading"])
def test_reference_rows_are_the_stock_models(family: str, source: str) -> None:
    backbone, model = tiny_backbone(family), stock_model(family)
    seeds = [1, 2, 3]
    part = References(at_most=10_000)
    Asking.part = part
    Asking.source = source
    seen = seen_by(backbone, seeds)
    transcript = backbone.transcript(seeds)
    size, system = len(transcript), transcript.spans[0][0]
    length = transcript.spans[1][1] - transcript.spans[1][0]
    start = transcript.spans[1][0]
    if source == "replay":
        attention = stock_attention(backbone, model, seeds, again=2)[:, :, size:]
        first, memory = length, size  # rows of demonstration 2 follow those of 1
    else:
        attention = stock_attention(backbone, model, seeds)[:, :, start : start + length]
        first, memory = start - system, start
    for number in (0, 1):
        one = seen.evidence[number]
        assert one is not None
        rows = Asking._heard[number]
        some = slice(first, first + length)
        found = rows.weights(one.keys, one.index, some)
        heads, group = found.shape[:2]
        wanted = attention[number].unflatten(0, (heads, group)).float()
        torch.testing.assert_close(found[..., :memory], wanted[..., :memory], atol=1e-5, rtol=1e-4)
        assert not found[..., memory:].any()
        rest = wanted[..., memory:].sum(-1)
        torch.testing.assert_close(rows.rest[:, :, some], rest, atol=1e-5, rtol=1e-4)
        # The live part: the same values again, at other places.
        again = one.values[:, start : start + length]
        live = wanted[..., memory : memory + length] @ again[:, None]
        if source == "reading":
            torch.testing.assert_close(rows.live[:, :, some], live, atol=1e-5, rtol=1e-4)


class Asking(Scorer):
    """A scorer that names reference rows."""

    part: Any = None
    source: str = "replay"
    _heard: ClassVar[dict[int, Asked]] = {}

    @property
    def records(self) -> tuple[References, ...]:
        return (self.part,) if self.source == "reading" else ()

    @property
    def replayed(self) -> tuple[References, ...]:
        return (self.part,) if self.source == "replay" else ()

    def score(self, found: Any) -> torch.Tensor:
        self._heard[found.layer] = asked_of(self, found)  # a record ends with its stage
        return torch.zeros(found.kv_heads, found.entries)


def seen_by(backbone: Any, seeds: list[int]) -> Any:
    recipe = replace(
        find_recipe("random"),
        scorer=Part("tests.compress.methods.test_measured:Asking"),
        budget=Part("tests.compress.methods.capture:Capture"),
    )
    capture.SEEN.clear()
    build_tiny(backbone, backbone.transcript(seeds), recipe=recipe, core="20")
    (seen,) = capture.SEEN
    return seen
