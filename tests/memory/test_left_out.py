"""A demonstration left out: as if its columns had never been in the core, row by row."""

from dataclasses import replace

import pytest
import torch

import tasm
from tasm.answer.ask import ask_batches
from tasm.demonstrations import Query
from tasm.errors import InputError
from tasm.memory import TaskMemory
from tasm.memory.left_out import leave_out
from tests.answer.conftest import demonstrations, folder, model, queries  # noqa: F401


def without(memory: TaskMemory, number: int) -> TaskMemory:
    """A memory whose tensors do not hold a demonstration's columns at all."""
    owner = memory.tokens.demonstration
    layers = []
    for layer in memory.core:
        assert layer is not None
        keep = owner[layer.index.long()] != number
        if layer.padding is not None:
            keep &= ~layer.padding
        layers.append(replace(layer, bias=layer.bias).where(keep))
    return memory.replaced(core=layers)


@pytest.mark.parametrize("recipe", ["full", "h2o", "compact"])
def test_what_is_hidden_is_as_if_it_were_not_there(model: tasm.Model, recipe: str) -> None:  # noqa: F811
    core = {} if recipe == "full" else {"core": "40%"}
    memory = tasm.build(model, demonstrations(), recipe=recipe, notice=None, **core)
    asked = [queries()[1], queries()[3], queries()[0]]
    left_out = [2, -1, 5]
    (batch,) = ask_batches(
        model.backbone, memory, asked, left_out=left_out, max_new_tokens=4, batch_size=3
    )
    for row, (query, number) in enumerate(zip(asked, left_out, strict=True)):
        bare = memory if number < 0 else without(memory, number)
        (alone,) = ask_batches(model.backbone, bare, [query], max_new_tokens=4)
        assert torch.allclose(batch.first_logits[row], alone.first_logits[0], atol=2e-4)
        assert batch.answers[row].token_ids == alone.answers[0].token_ids


def test_nothing_of_it_is_retrieved(model: tasm.Model) -> None:  # noqa: F811
    memory = tasm.build(model, demonstrations(), recipe="tasm", core="30%", bank="70%")
    assert memory.bank is not None
    cache = leave_out(memory.cache(gate="always"), memory, [0, 3])
    seen: list[torch.Tensor] = []
    extra = cache.extra
    heads, width = memory.core[0].keys.shape[0], memory.core[0].keys.shape[2]  # type: ignore[union-attr]
    query = torch.randn(2, heads, 1, width, generator=torch.Generator().manual_seed(0))
    for layer in range(len(memory.core)):
        brought = extra(layer, query, 1.0)  # type: ignore[misc]
        assert brought is not None and brought.index is not None and brought.bias is not None
        owner = memory.tokens.demonstration[brought.index.long()]
        for row, number in enumerate((0, 3)):
            used = brought.bias[row] > -1e29
            assert not bool((owner[row][used] == number).any())
            seen.append(owner[row][used])
    assert len(torch.cat(seen)) > 0


def test_own_queries_cannot_look_themselves_up(model: tasm.Model) -> None:  # noqa: F811
    memory = tasm.build(model, demonstrations(), recipe="tasm", core="30%", bank="70%")
    own = [Query(one.id, one.messages[:-1], (one.answer,)) for one in demonstrations()]
    for labels in (None, "demonstrations"):
        (batch,) = ask_batches(
            model.backbone,
            memory,
            own,
            left_out=range(6),
            batch_size=6,
            labels=labels,
            gate="always",
        )
        assert all(answer.retrieved_tokens > 0 for answer in batch.answers)


def test_a_state_of_all_demonstrations_cannot_be_left(model: tasm.Model) -> None:  # noqa: F811
    memory = tasm.build(model, demonstrations(), recipe="full")

    class Recurrent:
        states = ({},)

    with pytest.raises(InputError, match="recurrent layers"):
        leave_out(Recurrent(), memory, [0])  # type: ignore[arg-type]
