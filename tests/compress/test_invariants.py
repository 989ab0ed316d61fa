"""What holds for any example: merging conserves, keeping all changes nothing, heads are apart."""

from dataclasses import replace
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tasm.compress.evidence import Evidence, Selection
from tasm.compress.parts.reducers.drop import Drop
from tasm.compress.parts.reducers.merge import SpatialMerge
from tasm.compress.parts.scaling import pooled, to_unit
from tasm.compress.selection import select
from tasm.memory.per_head import packed, ranks, take
from tests.compress.examples import evidence, table

HEADS = 2


@st.composite
def examples(draw: st.DrawFn) -> tuple[Evidence, Selection]:
    """Images on grids and text of up to three demonstrations, after a system token or none."""
    roles: list[int] = []
    demonstration: list[int] = []
    place: list[list[int]] = []
    for _ in range(draw(st.integers(0, 1))):
        roles.append(0)
        demonstration.append(-1)
        place.append([-1] * 4)
    for number in range(draw(st.integers(1, 3))):
        height, width = draw(st.integers(0, 3)), draw(st.integers(1, 3))
        grid = [[number, 0, h, w] for h in range(height) for w in range(width)]
        text = draw(st.integers(1, 4))
        roles += [3] * len(grid) + [2] * text
        demonstration += [number] * (len(grid) + text)
        place += grid + [[-1] * 4] * text
    tokens, seed = len(roles), draw(st.integers(0, 10_000))
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(HEADS, tokens, 4, generator=generator) + 0.5
    values = torch.randn(HEADS, tokens, 4, generator=generator)
    counts = torch.randint(1, 4, (HEADS, tokens), generator=generator)
    positions = torch.randint(0, 9, (tokens,), generator=generator).tolist()
    one = evidence(keys, values, table(roles, demonstration, place, positions), counts=counts)
    kept = torch.rand(HEADS, tokens, generator=generator) < draw(st.floats(0.1, 0.9))
    kept |= one.always
    kept[:, -1] = True
    return one, Selection(kept, torch.zeros_like(kept))


reducers = st.builds(
    SpatialMerge,
    window=st.sampled_from([1, 3, 5]),
    metric=st.sampled_from(["chebyshev", "manhattan"]),
    threshold=st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
    text_scope=st.sampled_from(["demonstration", "anywhere", "nothing"]),
    keys=st.sampled_from(["plain", "rotated"]),
)


@given(examples(), reducers)
def test_counts_add_up_to_the_tokens_merged(example: Any, reducer: SpatialMerge) -> None:
    one, selection = example
    reduced = reducer.reduce(one, selection, torch.zeros(one.index.shape))
    keys = one.keys.float() if reducer.keys == "rotated" else one.plain_keys
    matches = reducer._match(one, keys, selection)
    merged = ~selection.kept & (matches.similarity >= reducer.threshold)
    assert reduced.originals is not None
    slots = torch.arange(reduced.originals.shape[1])
    real = slots < selection.counts[:, None]
    expected = (one.counts * (selection.kept | merged)).sum(1)
    torch.testing.assert_close((reduced.originals * real).sum(1), expected)
    assert (reduced.originals >= take(one.counts, selection.order))[real].all()


@given(examples(), reducers)
def test_merging_stays_inside_what_was_merged(example: Any, reducer: SpatialMerge) -> None:
    """Weights are positive and sum to one, so merged values lie between those they were made of."""
    one, selection = example
    same = torch.full_like(one.values, 3.25)
    constant = replace(one, held=replace(one.held, values=same))
    reduced = reducer.reduce(constant, selection, torch.zeros(one.index.shape))
    torch.testing.assert_close(reduced.values, torch.full_like(reduced.values, 3.25))
    plain = reducer.reduce(one, selection, torch.zeros(one.index.shape))
    assert (plain.values <= one.values.amax(1, keepdim=True) + 1e-5).all()
    assert (plain.values >= one.values.amin(1, keepdim=True) - 1e-5).all()


@given(examples(), reducers)
def test_keeping_everything_changes_nothing(example: Any, reducer: SpatialMerge) -> None:
    one, _ = example
    everything = torch.ones(one.index.shape, dtype=torch.bool)
    selection = Selection(everything, ~everything)
    for kind in (reducer, Drop()):
        reduced = kind.reduce(one, selection, torch.zeros(one.index.shape))
        assert torch.equal(reduced.keys, one.keys)
        assert torch.equal(reduced.values, one.values)
        assert torch.equal(reduced.originals, one.counts)


@given(examples(), reducers)
def test_heads_do_not_look_at_each_other(example: Any, reducer: SpatialMerge) -> None:
    one, selection = example

    def swap(tensor: Tensor) -> Tensor:
        return tensor.flip(0)

    names = ("keys", "values", "index", "originals")
    swapped_held = {name: swap(getattr(one.held, name)) for name in names}
    other = replace(one, held=replace(one.held, **swapped_held))
    swapped = Selection(swap(selection.kept), swap(selection.banked))
    first = reducer.reduce(one, selection, torch.zeros(one.index.shape))
    second = reducer.reduce(other, swapped, torch.zeros(one.index.shape))
    real = torch.arange(first.originals.shape[1]) < selection.counts[:, None]
    torch.testing.assert_close(first.keys[real], swap(second.keys)[real])
    torch.testing.assert_close(first.originals[real], swap(second.originals)[real])


@given(examples(), st.integers(0, 12), st.integers(0, 12), st.integers(0, 10_000))
def test_selection(example: Any, core: int, bank: int, seed: int) -> None:
    one, _ = example
    scores = torch.randn(one.index.shape, generator=torch.Generator().manual_seed(seed))
    chosen = select(one, scores, torch.full((HEADS,), core), torch.full((HEADS,), bank), "score")
    always = one.always.sum(1)
    expected = torch.clamp(torch.full((HEADS,), core), max=one.entries).maximum(always)
    assert torch.equal(chosen.counts, expected)
    assert chosen.kept[one.always].all()
    assert not (chosen.kept & chosen.banked).any()
    assert (one.counts[chosen.banked] == 1).all()
    for head in range(HEADS):
        competing = ~one.always[head]
        kept, left = chosen.kept[head] & competing, ~chosen.kept[head]
        if kept.any() and left.any():
            assert scores[head][kept].min() >= scores[head][left].max()
        originals = left & (one.counts[head] == 1)
        banked = chosen.banked[head]
        assert banked.sum() == min(bank, int(originals.sum()))
        rest = originals & ~banked
        if banked.any() and rest.any():
            assert scores[head][banked].min() >= scores[head][rest].max()


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_packed_lists_what_a_mask_marks(rows: list[list[bool]]) -> None:
    mask = torch.tensor(rows)
    order = packed(mask)
    for head, row in enumerate(rows):
        marked = [place for place, is_marked in enumerate(row) if is_marked]
        assert order[head, : len(marked)].tolist() == marked


@given(
    st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.sampled_from([0.5, 0.9, 0.99, 1.0])
)
def test_to_unit_against_a_sorted_list(values: list[float], clip: float) -> None:
    tensor = torch.tensor([values])
    found = to_unit(tensor, torch.ones_like(tensor, dtype=torch.bool), clip)[0]
    low = float(tensor.min())
    high = float(torch.quantile(tensor.double(), clip))
    if high - low < 1e-3:
        return
    expected = ((tensor[0] - low) / (high - low)).clamp(0, 1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=12), st.sampled_from([1, 3, 5]))
def test_pooling_against_a_loop(values: list[float], window: int) -> None:
    tensor = torch.tensor([values])
    found = pooled(tensor, torch.ones_like(tensor, dtype=torch.bool), window)[0]
    reach = window // 2
    for place in range(len(values)):
        around = tensor[0, max(0, place - reach) : place + reach + 1]
        torch.testing.assert_close(found[place], around.mean())


def test_ranks_put_earlier_entries_first_among_equals() -> None:
    assert ranks(torch.tensor([[2.0, 5.0, 2.0, 5.0]])).tolist() == [[2, 0, 3, 1]]
