"""Parts that are tried against each other: what is measured, and that the better one is built."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch

from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.prompt.roles import Role
from tasm.compress import trial as trials
from tasm.compress.recipes.recipe import Alternative, Part, Recipe
from tasm.compress.recipes.table import find_recipe
from tasm.compress.replay import Replay, alone
from tasm.compress.trial import Trial, least_harm, spaced
from tasm.memory import LayerTokens
from tasm.memory.tokens import TokenTable
from tests.compress.tiny_backbone import build_tiny, tiny_backbone

_DROP = Part("drop")
_EVEN = Part("uniform")
_ANSWERS = Part(
    "effect",
)
_RANDOM = Part("random")


def told(counts: list[int]) -> tuple[Replay, TokenTable, dict[int, LayerTokens]]:
    """Demonstrations of so many pictures, and everything that was read of them."""
    backbone = tiny_backbone()
    transcript = backbone.transcript(counts)
    memory = build_tiny(backbone, transcript, recipe="full")
    whole = {number: layer for number, layer in enumerate(memory.core) if layer is not None}
    replay = Replay(
        backbone,
        tuple(alone(transcript, number) for number in range(len(counts))),
        (None,) * backbone.geometry.layers,
        (None,) * backbone.geometry.layers,
        memory.next_position,
        memory.logical_length,
    )
    return replay, memory.tokens, whole


def kept_of(layer: LayerTokens, tokens: Iterable[int]) -> torch.Tensor:
    """(kv_heads, entries) true for these tokens of the transcript, of every head."""
    return torch.isin(layer.index, torch.tensor(sorted(tokens)))


def test_everything_loses_nothing_and_less_loses_more() -> None:
    replay, tokens, whole = told([1, 2, 3, 1])
    trial = Trial.of(replay, tokens, whole, 8)
    assert trial.numbers == (2, 3)  # those of the later half
    all_of = range(len(tokens))
    everything = {layer: kept_of(held, all_of) for layer, held in whole.items()}
    assert trial.losses([everything])[0].tolist() == pytest.approx([0, 0], abs=1e-6)
    few = {layer: kept_of(held, [*all_of][::9]) for layer, held in whole.items()}
    assert bool((trial.losses([everything, few])[1] > 1e-6).all())


def test_what_is_said_is_what_the_reading_said() -> None:
    """The rows stand where they stood: over everything before them they say what they said when the
    demonstrations were read, to which nothing is added by what comes later."""
    replay, tokens, whole = told([1, 3, 2, 2])
    trial = Trial.of(replay, tokens, whole, 2)
    backbone = replay.backbone
    transcript = backbone.transcript([1, 3, 2, 2])
    heard: list[torch.Tensor] = []
    hook = backbone.decoder.register_forward_hook(
        lambda decoder, given, output: heard.append(output.last_hidden_state)
    )
    backbone.encode(transcript, MemoryCache.empty(backbone.hf.config))
    hook.remove()
    answer = transcript.roles == int(Role.ANSWER)
    for number, said in zip(trial.numbers, trial.said([{}])[0], strict=True):
        rows = (answer & (transcript.demonstration == number)).nonzero()[:, 0] - 1
        assert torch.allclose(said, heard[0][0, rows], atol=2e-5)


def test_what_is_not_kept_is_as_if_it_were_not_there() -> None:
    """A demonstration's own tokens are read whole, whatever is kept of them."""
    replay, tokens, whole = told([1, 2, 3, 1])
    trial = Trial.of(replay, tokens, whole, 8)
    kept = set(range(0, len(tokens), 3))
    _, said = trial.said([{}, {layer: kept_of(held, kept) for layer, held in whole.items()}])
    for row, (end, (place, index)) in enumerate(
        zip(trial.replay.demonstrations, trial.replay.starts, strict=True)
    ):
        own = (tokens.demonstration == trial.numbers[row]).nonzero()[:, 0].tolist()
        seen = sorted(token for token in {*kept, *own} if token < index)
        rest = {
            layer: held.at(
                torch.tensor(seen).expand(held.kv_heads, -1), (len(seen),) * held.kv_heads
            )
            for layer, held in whole.items()
        }
        one = replace(
            replay, demonstrations=(end,), starts=(), next_position=place, logical_length=index
        )
        assert torch.allclose(said[row], one.read(rest).said[0], atol=2e-5)


def test_a_trial_reads_no_picture_and_few_rows() -> None:
    replay, tokens, whole = told([1, 2, 3, 1])
    for end in Trial.of(replay, tokens, whole, 8).replay.demonstrations:
        answers = int((end.roles == int(Role.ANSWER)).sum())
        assert answers > 0 and len(end) <= answers + trials.ROWS
        assert not len(end.images) and bool((end.place < 0).all())


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


def test_beside_a_layer_with_a_window_demonstrations_are_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such a layer holds the transcript's end alone, which rows that stood earlier never saw."""
    monkeypatch.delattr(Trial, "of")
    mixed = tiny_backbone("gemma2", layer_types=["sliding_attention", "full_attention"] * 2)
    memory = build_tiny(mixed, 4, recipe=competing(_ANSWERS, _RANDOM), core="16")
    assert memory.recipe["notes"]["taken"] in memory.recipe["notes"]["tried"]


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
    tried: list[dict[int, torch.Tensor]] = []

    def losses(trial: Trial, kept: list[dict[int, torch.Tensor]]) -> list[torch.Tensor]:
        tried.extend(kept)
        return [torch.full((2,), 0.1)] * len(kept)

    monkeypatch.setattr(Trial, "losses", losses)
    recipe = replace(competing(_ANSWERS, _RANDOM), bank_choice="random")
    memory = build_tiny(tiny_backbone(), 4, recipe=recipe, core="16", bank="8")
    own, _ = tried
    assert memory.recipe["notes"]["taken"] == "its own" and memory.bank is not None
    for layer, (core, held) in enumerate(zip(memory.core, memory.bank.layers, strict=True)):
        assert isinstance(core, LayerTokens) and held is not None
        for head in range(core.kv_heads):
            stored = core.index[head].tolist() + held.held().index[head].tolist()
            assert len(stored) == 24
            assert own[layer][head].nonzero()[:, 0].tolist() == sorted(stored)
