"""Parts that are tried against each other: what is measured, and that the better one is built."""

from dataclasses import replace

import pytest
import torch

from tasm.compress import trial as trials
from tasm.compress.recipes.recipe import Alternative, Part, Recipe
from tasm.compress.recipes.table import find_recipe
from tasm.compress.replay import Replay, alone
from tasm.compress.trial import Trial, least_harm, own_of, spaced
from tasm.memory import LayerTokens
from tests.compress.tiny_backbone import build_tiny, tiny_backbone

_DROP = Part("drop")
_EVEN = Part("uniform")
_ANSWERS = Part(
    "effect",
)
_RANDOM = Part("random")


def test_everything_loses_nothing_and_less_loses_more() -> None:
    backbone = tiny_backbone()
    transcript = backbone.transcript([1, 2, 3])
    memory = build_tiny(backbone, transcript, recipe="full")
    whole = {number: layer for number, layer in enumerate(memory.core) if layer is not None}
    replay = Replay(
        backbone,
        tuple(alone(transcript, number) for number in range(3)),
        (None,) * backbone.geometry.layers,
        (None,) * backbone.geometry.layers,
        memory.next_position,
        memory.logical_length,
    )
    trial = Trial.of(replay, memory.tokens, whole, 8)
    assert trial.numbers == (0, 1, 2)
    assert trial.losses(whole).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    few = build_tiny(backbone, transcript, recipe="random", core="6")
    kept = {number: layer for number, layer in enumerate(few.core) if layer is not None}
    assert bool((trial.losses(kept) > 1e-6).all())


def test_a_hidden_demonstration_is_as_if_it_were_not_there() -> None:
    """Asked together, one seeing all and one with itself hidden, each says what it says alone over
    a memory without those tokens; lengths differ, so that one is padded."""
    backbone = tiny_backbone()
    transcript = backbone.transcript([1, 3, 2])
    memory = build_tiny(backbone, transcript, recipe="full")
    whole = {number: layer for number, layer in enumerate(memory.core) if layer is not None}
    nothing = (None,) * backbone.geometry.layers
    asked = tuple(alone(transcript, number) for number in range(3))
    places = (memory.next_position, memory.logical_length)
    trial = Trial.of(
        Replay(backbone, asked, nothing, nothing, *places), memory.tokens, whole, at_most=3
    )
    for number, demonstration in enumerate(asked):
        one = Replay(backbone, (demonstration,), nothing, nothing, *places)
        rest = {}
        for layer, held in whole.items():
            others = memory.tokens.demonstration[held.index[0].long()] != number
            order = others.nonzero()[:, 0].expand(held.kv_heads, -1)
            rest[layer] = held.at(order, (order.shape[1],) * held.kv_heads)
        for said, kept in (
            (trial.teacher.said[number], whole),
            (trial.teacher.said[3 + number], rest),
        ):
            assert torch.allclose(said, one.read(kept).said[0], atol=2e-5)


def test_own_tokens_are_those_of_the_demonstration() -> None:
    backbone = tiny_backbone()
    memory = build_tiny(backbone, backbone.transcript([1, 2, 3]), recipe="full")
    layer = memory.core[0]
    assert isinstance(layer, LayerTokens)
    own = own_of(layer, memory.tokens, [2, 0])
    for row, number in enumerate([2, 0]):
        for head in range(layer.kv_heads):
            for entry, token in enumerate(layer.index[head].tolist()):
                assert bool(own[row, head, entry]) == (
                    int(memory.tokens.demonstration[token]) == number
                )


def test_only_what_is_surely_better_is_taken() -> None:
    def of(*nats: list[float]) -> int:
        return least_harm([torch.tensor(one) for one in nats])

    assert of([0.5, 0.4, 0.6], [0.1, 0.1, 0.1]) == 1
    assert of([0.5, 0.0, 0.0], [0.1, 0.1, 0.1]) == 0  # one demonstration says it
    assert of([0.005, 0.004], [0.0, 0.0]) == 0  # next to nothing
    assert of([0.5, 0.4], [0.2, 0.1], [0.25, 0.0]) == 2  # the least of what is better
    assert of([0.5], [0.1]) == 0  # one is no trial
    assert of([0.1, 0.1], [0.5, 0.4]) == 0


def test_a_trial_asks_a_few_evenly_spaced() -> None:
    assert spaced(10, 3) == [0, 3, 6]
    assert spaced(2, 8) == [0, 1]


def competing(first: Part, second: Part) -> Recipe:
    return Recipe(
        "competing",
        "",
        2026,
        "",
        scorer=first,
        budget=_EVEN,
        reducer=_DROP,
        others=(Alternative("the other", second, _EVEN, _DROP),),
    )


@pytest.mark.parametrize("swapped", [False, True])
def test_the_better_parts_are_built_whatever_their_order(
    swapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "NO_HARM", 0.0)
    monkeypatch.setattr(trials, "SURE", 0.0)
    backbone = tiny_backbone()
    order = (_RANDOM, _ANSWERS) if swapped else (_ANSWERS, _RANDOM)
    memory = build_tiny(backbone, 4, recipe=competing(*order), core="16")
    notes = memory.recipe["notes"]
    assert set(notes["tried"]) == {"its own", "the other"} and memory.report["seconds"]["trial"] > 0
    best = min(notes["tried"], key=notes["tried"].get)
    assert notes["taken"] == best
    taken = order[0] if best == "its own" else order[1]
    alone_ = build_tiny(backbone, 4, recipe=replace(competing(taken, taken), others=()), core="16")
    for one, other in zip(memory.core, alone_.core, strict=True):
        assert isinstance(one, LayerTokens) and isinstance(other, LayerTokens)
        assert torch.equal(one.index, other.index)


def test_nothing_is_tried_where_everything_fits() -> None:
    memory = build_tiny(tiny_backbone(), 2, recipe=competing(_ANSWERS, _RANDOM), core="100%")
    assert "tried" not in memory.recipe.get("notes", {})


def test_one_demonstration_is_no_trial() -> None:
    memory = build_tiny(tiny_backbone(), 1, recipe=competing(_ANSWERS, _RANDOM), core="8")
    assert "tried" not in memory.recipe.get("notes", {})
    assert memory.report["seconds"]["trial"] == 0


def test_compact_says_what_it_took() -> None:
    memory = build_tiny(tiny_backbone(), 4, recipe="compact", core="16")
    notes = memory.recipe["notes"]
    assert set(notes["tried"]) == {"its own", "by effect", "by effect, even layers"}
    assert notes["taken"] in notes["tried"]


def test_the_old_name_is_still_found_with_its_own_parts() -> None:
    old = find_recipe("tasm-compact")
    assert old.budget is not None and old.budget.class_name == "Neyman"
    assert find_recipe("compact").budget != old.budget


def test_core_and_bank_are_tried_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked is all that would be stored: every head's core and its banked originals."""
    tried: list[dict[int, LayerTokens]] = []

    def losses(trial: Trial, candidate: dict[int, LayerTokens]) -> torch.Tensor:
        tried.append(candidate)
        return torch.zeros(2)

    monkeypatch.setattr(Trial, "losses", losses)
    recipe = replace(competing(_ANSWERS, _RANDOM), bank_choice="random")
    memory = build_tiny(tiny_backbone(), 4, recipe=recipe, core="16", bank="8")
    own, _ = tried
    assert memory.recipe["notes"]["taken"] == "its own" and memory.bank is not None
    for layer, (core, held) in enumerate(zip(memory.core, memory.bank.layers, strict=True)):
        assert isinstance(core, LayerTokens) and held is not None
        for head in range(core.kv_heads):
            stored = core.index[head].tolist() + held.tokens.index[head].tolist()
            assert len(stored) == 24
            assert sorted(own[layer].index[head].tolist()) == sorted(stored)
