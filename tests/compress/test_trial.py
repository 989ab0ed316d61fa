"""Parts that are tried against each other: what is measured, and that the better one is built."""

from dataclasses import replace

import pytest
import torch

from tasm.backbone.attention.segment import UNUSED
from tasm.compress import compressor
from tasm.compress.recipes.recipe import Alternative, Part, Recipe
from tasm.compress.recipes.table import find_recipe
from tasm.compress.replay import Replay, alone
from tasm.compress.trial import Trial, without
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
    trial = Trial.of(replay, memory.tokens, whole)
    assert trial.numbers == (0, 1, 2)
    assert trial.loss(whole) == pytest.approx(0, abs=1e-6)
    few = build_tiny(backbone, transcript, recipe="random", core="6")
    kept = {number: layer for number, layer in enumerate(few.core) if layer is not None}
    assert trial.loss(kept) > 1e-6


def test_a_hidden_demonstration_is_as_if_it_were_not_there() -> None:
    backbone = tiny_backbone()
    memory = build_tiny(backbone, backbone.transcript([1, 2, 3]), recipe="full")
    layer = memory.core[0]
    assert layer is not None
    hidden = without(layer, memory.tokens, 1)
    assert hidden.bias is not None
    own = memory.tokens.demonstration[layer.index.long()] == 1
    assert bool(own.any()) and bool((hidden.bias[own] == UNUSED).all())
    assert not hidden.bias[~own].any()
    biased = replace(layer, bias=torch.ones(layer.index.shape))
    assert bool((without(biased, memory.tokens, 1).bias[~own] == 1).all())  # type: ignore[index]


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
@pytest.mark.parametrize("harm", [0.0, 1.0])
def test_the_better_parts_are_built_whatever_their_order(
    swapped: bool, harm: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressor, "NO_HARM", harm)
    backbone = tiny_backbone()
    order = (_RANDOM, _ANSWERS) if swapped else (_ANSWERS, _RANDOM)
    memory = build_tiny(backbone, 4, recipe=competing(*order), core="16")
    notes = memory.recipe["notes"]
    assert set(notes["tried"]) == {"its own", "the other"} and memory.report["seconds"]["trial"] > 0
    best = min(notes["tried"], key=notes["tried"].get)
    if notes["tried"]["its own"] < harm:
        best = "its own"
    assert notes["taken"] == best
    taken = order[0] if best == "its own" else order[1]
    alone_ = build_tiny(backbone, 4, recipe=replace(competing(taken, taken), others=()), core="16")
    for one, other in zip(memory.core, alone_.core, strict=True):
        assert isinstance(one, LayerTokens) and isinstance(other, LayerTokens)
        assert torch.equal(one.index, other.index)


def test_nothing_is_tried_where_everything_fits() -> None:
    memory = build_tiny(tiny_backbone(), 2, recipe=competing(_ANSWERS, _RANDOM), core="100%")
    assert "tried" not in memory.recipe.get("notes", {})


def test_compact_says_what_it_took() -> None:
    memory = build_tiny(tiny_backbone(), 4, recipe="compact", core="16")
    notes = memory.recipe["notes"]
    assert set(notes["tried"]) == {"its own", "fitted", "fitted, even layers"}
    assert notes["taken"] in notes["tried"]


def test_the_old_name_is_still_found_with_its_own_parts() -> None:
    old = find_recipe("tasm-compact")
    assert old.budget is not None and old.budget.class_name == "Neyman"
    assert find_recipe("compact").budget != old.budget
