"""Memories that are tried as they are: what is asked, and over what."""

import pytest
import torch

from tasm.compress.asking import Asking
from tasm.compress.recipes.table import find_recipe
from tasm.compress.replay import ReadAgain, Replay, alone
from tests.compress.tiny_backbone import build_tiny, tiny_backbone


def test_a_hidden_demonstration_is_as_if_it_were_not_there() -> None:
    """Asked together, every second with itself hidden, each says what it says alone over a memory
    without those tokens; lengths differ, so that some are padded."""
    backbone = tiny_backbone()
    transcript = backbone.transcript([1, 3, 2])
    memory = build_tiny(backbone, transcript, recipe="full")
    whole = {number: layer for number, layer in enumerate(memory.core) if layer is not None}
    nothing = (None,) * backbone.geometry.layers
    asked = tuple(alone(transcript, number) for number in range(3))
    places = (memory.next_position, memory.logical_length)
    asking = Asking.of(
        Replay(backbone, asked, nothing, nothing, *places), memory.tokens, whole, at_most=3
    )
    assert asking.numbers == (0, 1, 2)
    for number, demonstration in enumerate(asked):
        one = Replay(backbone, (demonstration,), nothing, nothing, *places)
        rest = {}
        for layer, held in whole.items():
            others = memory.tokens.demonstration[held.index[0].long()] != number
            order = others.nonzero()[:, 0].expand(held.kv_heads, -1)
            rest[layer] = held.at(order, (order.shape[1],) * held.kv_heads)
        seen = rest if number % 2 else whole
        assert torch.allclose(asking.teacher.said[number], one.read(seen).said[0], atol=2e-5)
    assert asking.losses(whole).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    heard = Replay(backbone, asked, nothing, nothing, *places).read(whole)
    again = Asking.of(asking.replay, memory.tokens, whole, 3, heard)
    for mine, theirs in zip(again.teacher.said, asking.teacher.said, strict=True):
        assert torch.allclose(mine, theirs, atol=2e-5)
    few = build_tiny(backbone, transcript, recipe="random", core="6")
    kept = {number: layer for number, layer in enumerate(few.core) if layer is not None}
    assert bool((asking.losses(kept) > 1e-6).all())


def test_what_is_fitted_is_tried_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values of the memory that is built are those that were asked."""
    tried: list[dict[int, object]] = []

    def losses(asking: Asking, candidate: dict[int, object]) -> torch.Tensor:
        tried.append(candidate)
        return torch.full((2,), 0.1)

    monkeypatch.setattr(Asking, "losses", losses)
    monkeypatch.setattr(Asking, "said", lambda asking, layers, some: ReadAgain((None,)))
    memory = build_tiny(tiny_backbone(), 4, recipe="compact", core="16")
    assert memory.recipe["notes"]["taken"] == "its own" and len(tried) == 3
    for layer, core in enumerate(memory.core):
        own = tried[0][layer]
        assert core is not None and torch.equal(core.index, own.index)  # type: ignore[attr-defined]


@pytest.mark.parametrize("recipe", ["compact", "tasm"])
@pytest.mark.parametrize(("loss", "tried"), [(0.004, 1), (0.1, 2)])
def test_others_are_tried_only_where_one_could_be_better(
    recipe: str, loss: float, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What loses next to nothing cannot be beaten by enough; the memory is the same either way."""
    divergences = Replay.divergences
    monkeypatch.setattr(Replay, "divergences", lambda *given: divergences(*given) * 0 + loss)
    backbone = tiny_backbone()
    memory = build_tiny(backbone, 4, recipe=recipe, core="16")
    others = len(find_recipe(recipe).others)
    assert len(memory.recipe["notes"]["tried"]) == (1 if tried == 1 else 1 + others)
    monkeypatch.setattr("tasm.compress.planning.is_harmless", lambda first: False)
    whole = build_tiny(backbone, 4, recipe=recipe, core="16")
    for one, other in zip(memory.core, whole.core, strict=True):
        assert one is not None and other is not None
        assert torch.equal(one.keys, other.keys) and torch.equal(one.values, other.values)
