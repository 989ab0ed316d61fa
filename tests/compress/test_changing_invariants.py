"""What holds of memories that change, whatever is drawn: Hypothesis draws the changes.

Two memories are the same up to order and positions where each demonstration's values, its keys
before rotation and its kept tokens are the same.
"""

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import tasm
from tasm.memory import TaskMemory
from tests.compress.test_shards import ids, independent, pick, rows, same
from tests.compress.tiny_backbone import TinyBackbone, logits_after, stock_logits, tiny_backbone
from tests.memory.test_files import assert_same

RECIPES = ("tasm", "kvzip-even-layers", "look-m", "snapkv")
QUERY = (30, 31, 32)
Numbers = st.lists(st.integers(2, 9), min_size=1, max_size=3, unique=True)


@pytest.fixture(scope="module")
def backbone() -> TinyBackbone:
    return tiny_backbone()


def contents(backbone: Any, memory: TaskMemory) -> dict[str, list[Tensor]]:
    """By id: of every layer and head which of a demonstration's tokens are kept, their keys before
    rotation, values and biases; the system prompt's as ""."""
    start = min(one.spans[0][0] for one in memory.demonstrations)
    spans = {"": (0, start)} | {
        one.id: (one.spans[0][0], one.spans[-1][1]) for one in memory.demonstrations
    }
    found: dict[str, list[Tensor]] = {name: [] for name in spans}
    banks = [] if memory.bank is None else [one and one.held() for one in memory.bank.layers]
    for number, layer in [*enumerate(memory.core), *enumerate(banks)]:
        if layer is None:
            continue
        for head, count in enumerate(layer.counts):
            index = layer.index[head, :count].long()
            at = memory.tokens.positions.long()[:, index]
            keys = backbone.rotary.unrotate(number, layer.keys[head : head + 1, :count], at)[0]
            bias = torch.zeros(count) if layer.bias is None else layer.bias[head, :count]
            for name, (first, end) in spans.items():
                own = (index >= first) & (index < end)
                parts = (index[own] - first, keys[own], layer.values[head, :count][own], bias[own])
                found[name] += parts
    return found


def assert_alike(backbone: Any, one: TaskMemory, other: TaskMemory) -> None:
    """The same up to order and positions."""
    mine, theirs = contents(backbone, one), contents(backbone, other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        for a, b in zip(mine[name], theirs[name], strict=True):
            assert a.shape == b.shape and torch.allclose(a.float(), b.float(), atol=5e-5), name


@settings(max_examples=8)
@given(
    recipe=st.sampled_from(RECIPES),
    changes=st.lists(st.tuples(st.booleans(), st.integers(2, 9)), min_size=1, max_size=5),
)
def test_any_changes_end_in_what_one_build_of_the_rest_gives(
    backbone, recipe, changes, tmp_path_factory
):
    """And after each change what is saved is what is loaded."""
    memory, there = independent(backbone, pick(1, 2, 3), recipe), [1, 2, 3]
    for is_add, number in changes:
        if is_add and number not in there:
            memory = tasm.add(memory, backbone, pick(number), notice=None)
            there.append(number)
        elif not is_add and number in there:
            memory = tasm.remove(memory, backbone, [str(number)], notice=None)
            there.remove(number)
    folder = tmp_path_factory.mktemp("changed") / "m.tasm"
    memory.save(folder)
    loaded = tasm.load(folder)
    loaded.check_all()
    assert_same(memory.replaced(report=loaded.report), loaded)  # a file has no seconds
    same(loaded, independent(backbone, pick(*there), recipe))


@settings(max_examples=8)
@given(recipe=st.sampled_from(RECIPES), more=Numbers, data=st.data())
def test_adding_and_removing_again_is_as_before(backbone, recipe, more, data):
    memory = independent(backbone, pick(1, *more), recipe)
    grown = tasm.add(memory, backbone, pick(20, 21), notice=None)
    less = tasm.remove(grown, backbone, ["21", "20"], notice=None)
    same(less, memory)
    gone = data.draw(st.sampled_from(more))
    if len(more) > 1:
        back = tasm.add(
            tasm.remove(memory, backbone, [str(gone)], notice=None),
            backbone,
            pick(gone),
            notice=None,
        )
        assert_alike(backbone, back, memory)  # it is the last now


@settings(max_examples=8)
@given(recipe=st.sampled_from(RECIPES), more=Numbers, data=st.data())
def test_the_order_of_demonstrations_changes_positions_alone(backbone, recipe, more, data):
    memory = independent(backbone, pick(1, *more), recipe)
    order = data.draw(st.permutations(more))
    assert_alike(backbone, independent(backbone, pick(1, *order), recipe), memory)


@settings(max_examples=5)
@given(one=Numbers, other=Numbers, same_first=st.booleans())
def test_merging_is_the_same_in_both_orders(backbone, one, other, same_first):
    """Where what both hold was read alike, or they hold nothing in common."""
    first = independent(backbone, pick(1, *one))
    base = 1 if same_first else 11
    second = independent(backbone, pick(base, *(other if same_first else (n + 10 for n in other))))
    both = tasm.merge(backbone, [first, second], notice=None)
    turned = tasm.merge(backbone, [second, first], notice=None)
    assert sorted(ids(both)) == sorted(ids(turned)) == sorted({*ids(first), *ids(second)})
    assert_alike(backbone, both, turned)


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), recipe=st.sampled_from(RECIPES))
def test_the_order_of_what_is_kept_does_not_matter_to_an_answer(backbone, seed, recipe):
    """A memory is a set: its columns in any order, positions going with them, answer alike."""
    memory = independent(backbone, rows(4), recipe).replaced(bank=None, gate=None, reference=None)
    generator = torch.Generator().manual_seed(seed)
    shuffled = []
    for layer in memory.core:
        assert layer is not None
        orders = [torch.randperm(count, generator=generator) for count in layer.counts]
        shuffled.append(
            type(layer).of_heads(
                *(
                    torch.cat([held[head, order] for head, order in enumerate(orders)])
                    for held in (layer.keys, layer.values, layer.index)
                ),
                layer.counts,
                None
                if layer.bias is None
                else torch.cat([layer.bias[head, order] for head, order in enumerate(orders)]),
            )
        )
    turned = memory.replaced(core=shuffled)
    right = logits_after(backbone, memory.cache(), QUERY)
    assert torch.allclose(logits_after(backbone, turned.cache(), QUERY), right, atol=1e-4)


@settings(max_examples=8)
@given(
    family=st.sampled_from(["qwen2_vl", "llava", "idefics3"]),
    recipe=st.sampled_from(["tasm", "kvzip", "snapkv", "compact"]),
    count=st.integers(1, 4),
    query=st.lists(st.integers(10, 180), min_size=1, max_size=4),
)
def test_keeping_everything_is_the_full_context(family, recipe, count, query):
    backbone = BACKBONES.setdefault(family, tiny_backbone(family))
    memory = tasm.build(backbone, rows(count), recipe=recipe, core="100%", bank="0", notice=None)
    right = stock_logits(backbone, backbone.transcript(rows(count)), query)
    assert torch.allclose(logits_after(backbone, memory.cache(), query), right, atol=1e-4)


BACKBONES: dict[str, TinyBackbone] = {}
