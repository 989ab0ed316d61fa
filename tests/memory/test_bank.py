"""The bank's search against sorting in plain Python."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from tasm.memory import Bank, LayerTokens
from tasm.memory.retrieval import bank as bank_module
from tasm.memory.retrieval.attached import Attached
from tasm.memory.retrieval.granularity import Neighbourhoods, WholeImages, make_granularity
from tasm.memory.tokens import TokenTable
from tests.memory.memories import layer_tokens


def plain_top(query: list[float], keys: list[list[float]], k: int) -> list[int]:
    products = [sum(a * b for a, b in zip(query, key, strict=True)) for key in keys]
    return sorted(range(len(keys)), key=lambda row: -products[row])[:k]


def test_top_two_by_hand():
    """Two heads, four tokens, head size 2; worked out on paper."""
    keys = torch.tensor(
        [
            [[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, -1.0]],
            [[1.0, 1.0], [-1.0, 0.0], [0.0, 3.0], [0.5, 0.0]],
        ]
    )
    tokens = LayerTokens(keys, keys * 10, torch.tensor([[4, 5, 6, 7], [0, 2, 4, 6]]).int())
    found = Bank([tokens]).search(0, torch.tensor([[[3.0, 1.0], [-1.0, 0.1]]]), 2)
    # head 0: 3, 1, 6, -1 -> tokens 2 and 0; head 1: -0.9, 1, 0.3, -0.5 -> tokens 1 and 2
    assert found.index.tolist() == [[[6, 4], [2, 4]]]
    assert found.keys.tolist() == [[[[2.0, 0.0], [1.0, 0.0]], [[-1.0, 0.0], [0.0, 3.0]]]]
    torch.testing.assert_close(found.values, found.keys * 10)
    assert found.missing is None


def test_each_query_head_asks():
    """Four tokens, two query heads: what either wants most, not what their mean does."""
    keys = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [1.6, 1.6], [-1.0, -1.0]]])
    tokens = LayerTokens(keys, keys * 10, torch.tensor([[4, 5, 6, 7]]).int())
    query = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    # each: 2 or 0, 0 or 3, 1.6, -1 -> tokens 1 and 0; the mean (½, ½): 1, 1.5, 1.6 -> 2 and 1
    assert Bank([tokens]).search(0, query, 2).index.tolist() == [[[5, 4]]]
    assert Bank([tokens]).search(0, query.mean(2), 2).index.tolist() == [[[6, 5]]]


@given(
    lengths=st.tuples(st.integers(1, 30), st.integers(0, 30)),
    k=st.integers(1, 12),
    chunk=st.sampled_from([16, 64, 1 << 20]),
    seed=st.integers(0, 1000),
)
def test_search_agrees_with_sorting(lengths, k, chunk, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = layer_tokens(generator, lengths, total=64)
    query = torch.randn(3, 2, 8, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank_module, "_SCAN_ELEMENTS", chunk)
        found = Bank([None, tokens]).search(1, query, k)
    assert found.index.shape == (3, 2, min(k, max(lengths)))
    for head, count in enumerate(lengths):
        keys = tokens.keys[head, :count].tolist()
        for row in range(3):
            rows = plain_top(query[row, head].tolist(), keys, k)
            here = found.index[row, head, : len(rows)].tolist()
            assert here == [int(tokens.index[head, r]) for r in rows]
            for place, r in enumerate(rows):
                assert torch.equal(found.values[row, head, place], tokens.values[head, r])
        if found.missing is not None:
            assert (~found.missing[head]).sum() == min(k, max(lengths), count)


def test_missing_tokens_are_hidden_in_the_segment():
    tokens = layer_tokens(torch.Generator().manual_seed(3), (5, 1), total=9)
    query = torch.ones(1, 2, 8)
    segment = Attached.of(Bank([tokens]).search(0, query, 3), query).segment()
    assert segment.bias is not None
    assert (segment.bias < -1e20).tolist() == [[[False] * 3, [False, True, True]]]


def table(places: list[tuple[int, int, int, int]]) -> TokenTable:
    count = len(places)
    zeros = torch.zeros(count)
    return TokenTable.make(zeros[None], zeros, zeros, torch.tensor(places))


def test_whole_images_come_image_by_image_and_are_cut_at_k():
    places = [(0, 0, 0, 0), (0, 0, 0, 1), (1, 0, 0, 0), (1, 0, 0, 1), (-1, -1, -1, -1)]
    scores = torch.tensor([[[0.1, 0.9, 0.5, 0.2, 0.6]]])
    index = torch.arange(5)[None]
    strategy = WholeImages(table(places))
    # image 0 by its best (0.9), then the text token (0.6), then image 1 (0.5)
    assert strategy.choose(scores, index, 5).tolist() == [[[1, 0, 4, 2, 3]]]
    assert strategy.choose(scores, index, 4).tolist() == [[[1, 0, 4, 2]]]


def test_whole_images_do_not_revive_slots_that_a_head_has_not():
    places = [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0)]
    scores = torch.tensor([[[0.1, float("-inf"), 0.3]]])
    chosen = WholeImages(table(places)).choose(scores, torch.arange(3)[None], 2)
    assert chosen.tolist() == [[[2, 0]]]


def test_neighbours_of_the_best_token_come_before_better_ones_elsewhere():
    grid = [(0, 0, h, w) for h in range(4) for w in range(4)]
    places = [*grid, (1, 0, 0, 0), (-1, -1, -1, -1)]
    scores = torch.full((1, 1, 18), 0.0)
    scores[0, 0, 5] = 1.0  # (h, w) = (1, 1) on image 0
    scores[0, 0, 15] = 0.8  # (3, 3), not beside it
    scores[0, 0, 16] = 0.7  # another image at (0, 0)
    chosen = Neighbourhoods(table(places)).choose(scores, torch.arange(18)[None], 11)[0, 0]
    neighbours = {h * 4 + w for h in range(3) for w in range(3)}
    assert set(chosen[:9].tolist()) == neighbours
    assert chosen[0] == 5
    assert chosen[9:].tolist() == [15, 16]


def test_granularities_by_name():
    here = table([(0, 0, 0, 0)])
    assert make_granularity("token", here) is None
    assert isinstance(make_granularity("image", here), WholeImages)
    with pytest.raises(ValueError, match="Did you mean 'image'"):
        make_granularity("imag", here)
