"""The registered attention against one softmax over everything, all masks and segments."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tasm.backbone.attention.function import memory_attention
from tasm.backbone.attention.positions import LiveRows
from tasm.backbone.attention.segment import UNUSED, Segment, can_join, join

KV_HEADS, GROUP, HEAD_DIM = 2, 3, 8


def module(number: int = 0) -> SimpleNamespace:
    return SimpleNamespace(layer_idx=number)


def with_memory(key: Tensor, segments: tuple[Segment, ...], rows: LiveRows) -> Tensor:
    key = key[...]
    key.tasm_layer = SimpleNamespace(segments=segments, rows=rows, pending=True)  # type: ignore[attr-defined]
    return key


def one_softmax(query: Tensor, runs: list[tuple[Tensor, Tensor, Tensor]], scaling: float) -> Tensor:
    """Softmax over runs of (keys, values, added (batch, kv_heads, n, tokens)) in float64."""
    batch, _, n, _ = query.shape
    output = torch.zeros(batch, n, KV_HEADS * GROUP, HEAD_DIM, dtype=torch.float64)
    for b in range(batch):
        for h in range(KV_HEADS * GROUP):
            kv = h // GROUP
            keys = torch.cat([k[b if k.shape[0] > 1 else 0, kv] for k, _, _ in runs]).double()
            values = torch.cat([v[b if v.shape[0] > 1 else 0, kv] for _, v, _ in runs]).double()
            added = torch.cat([a[b, kv] for _, _, a in runs], -1).double()
            logits = query[b, h].double() @ keys.T * scaling + added
            output[b, :, h] = logits.softmax(-1) @ values
    return output


@given(
    batch=st.sampled_from([1, 3]),
    n=st.sampled_from([1, 5]),
    shared=st.booleans(),
    window=st.sampled_from([None, 4, 9]),
    mask_kind=st.sampled_from(["none", "bool", "float"]),
    biased=st.booleans(),
    index_heads=st.sampled_from([1, KV_HEADS]),
    seed=st.integers(0, 50),
)
def test_attention_over_segments(
    batch: int,
    n: int,
    shared: bool,
    window: int | None,
    mask_kind: str,
    biased: bool,
    index_heads: int,
    seed: int,
) -> None:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    query = normal(batch, KV_HEADS * GROUP, n, HEAD_DIM)
    key, value = normal(2, batch, KV_HEADS, n, HEAD_DIM)
    padding = torch.arange(batch) % max(n, 1)  # rows are left-padded by 0, 1, 2 … tokens
    memory_tokens = 11
    keys, values = normal(2, 1 if shared else batch, KV_HEADS, memory_tokens, HEAD_DIM)
    bias = normal(1, KV_HEADS, memory_tokens) if biased else None
    index = torch.arange(memory_tokens)[None].repeat(index_heads, 1)
    if index_heads > 1:
        index[1] = index[1].flip(0)
    rows = LiveRows()
    rows.index = memory_tokens + torch.arange(n)[None] - padding[:, None]

    seen = torch.ones(n, n).tril().bool()[None].repeat(batch, 1, 1)
    if mask_kind == "none":
        padding = torch.zeros_like(padding)
        rows.index = memory_tokens + torch.arange(n)[None].repeat(batch, 1)
    for b in range(batch):
        seen[b, :, : int(padding[b])] = False
    lowest = torch.finfo(torch.float32).min
    added = torch.where(seen, 0.0, lowest)[:, None]
    mask = {"none": None, "bool": seen[:, None], "float": added}[mask_kind]

    segments = (
        Segment(
            keys[:, :, :7], values[:, :, :7], None if bias is None else bias[..., :7], index[:, :7]
        ),
        Segment(
            keys[:, :, 7:], values[:, :, 7:], None if bias is None else bias[..., 7:], index[:, 7:]
        ),
    )
    output, _ = memory_attention(
        module(), query, with_memory(key, segments, rows), value, mask,
        scaling=0.3, sliding_window=window,
    )  # fmt: skip

    beside = torch.zeros(batch, KV_HEADS, n, memory_tokens)
    if bias is not None:
        beside = beside + bias[:, :, None]
    if window is not None:
        for b in range(batch):
            for h in range(KV_HEADS):
                for t in range(n):
                    far = rows.index[b, t] - index[h % index_heads] >= window
                    beside[b, h, t, far] = lowest
    expected = one_softmax(
        query, [(key, value, added.expand(-1, KV_HEADS, -1, -1)), (keys, values, beside)], 0.3
    )
    for b in range(batch):
        real = slice(int(padding[b]), None)  # what a padding token sees has no meaning
        torch.testing.assert_close(output[b, real].double(), expected[b, real], atol=3e-6, rtol=0)


def test_a_token_that_counts_twice_equals_two_copies() -> None:
    torch.manual_seed(0)
    query, (key, value) = torch.randn(1, 6, 3, 8), torch.randn(2, 1, 2, 3, 8)
    keys, values = torch.randn(2, 1, 2, 5, 8)
    once, rows = Segment(keys, values), LiveRows()
    counted = Segment(keys, values, torch.full((1, 1, 5), 2.0).log())
    twice = memory_attention(module(), query, with_memory(key, (once, once), rows), value, None)
    biased = memory_attention(module(), query, with_memory(key, (counted,), rows), value, None)
    plain = memory_attention(module(), query, with_memory(key, (once,), rows), value, None)
    torch.testing.assert_close(twice[0], biased[0], atol=1e-6, rtol=0)
    assert (plain[0] - biased[0]).abs().max() > 0.01


def test_ragged_heads_equal_heads_of_their_own() -> None:
    """Head 0 keeps four tokens, head 1 one: padding by UNUSED equals having no padding."""
    torch.manual_seed(0)
    query, (key, value) = torch.randn(2, 6, 3, 8), torch.randn(2, 2, 2, 3, 8)
    keys, values = torch.randn(2, 1, 2, 4, 8)
    bias = torch.tensor([[[0.0, 0, 0, 0], [0, UNUSED, UNUSED, UNUSED]]])
    rows = LiveRows()
    output, _ = memory_attention(
        module(), query, with_memory(key, (Segment(keys, values, bias),), rows), value, None
    )
    for head, kept in ((0, 4), (1, 1)):
        cut = slice(head, head + 1)
        part = Segment(keys[:, cut, :kept], values[:, cut, :kept])
        alone, _ = memory_attention(
            module(), query[:, 3 * head : 3 * head + 3],
            with_memory(key[:, cut], (part,), rows), value[:, cut], None,
        )  # fmt: skip
        torch.testing.assert_close(output[:, :, 3 * head : 3 * head + 3], alone, atol=1e-6, rtol=0)


def test_a_row_whose_memory_is_all_out_of_the_window_sees_its_live_tokens() -> None:
    torch.manual_seed(0)
    query, (key, value) = torch.randn(1, 6, 2, 8), torch.randn(2, 1, 2, 2, 8)
    keys, values = torch.randn(2, 1, 2, 4, 8)
    rows = LiveRows()
    rows.index = torch.tensor([[100, 101]])
    far = Segment(keys, values, index=torch.arange(4)[None])
    output, _ = memory_attention(
        module(), query, with_memory(key, (far,), rows), value, None, sliding_window=8
    )
    alone, _ = memory_attention(module(), query, key, value, None)
    torch.testing.assert_close(output, alone, atol=1e-6, rtol=0)


def test_join_and_last() -> None:
    torch.manual_seed(0)
    keys, values = torch.randn(2, 1, 2, 5, 8)
    index = torch.arange(5)[None]
    first = Segment(keys[:, :, :3], values[:, :, :3], None, index[:, :3])
    second = Segment(keys[:, :, 3:], values[:, :, 3:], None, index[:, 3:])
    assert can_join(first, second)
    whole = join([first, second])
    assert torch.equal(whole.keys, keys) and torch.equal(whole.values, values)
    assert whole.index is not None and torch.equal(whole.index, index) and whole.bias is None
    assert not can_join(first, Segment(keys, values))
    assert torch.equal(whole.last(2).keys, keys[:, :, 3:]) and whole.last(9) is whole


@pytest.mark.parametrize("rows", [1, 2])
def test_segments_follow_rows(rows: int) -> None:
    keys = torch.arange(float(rows)).view(rows, 1, 1, 1).repeat(1, 2, 3, 8)
    segment = Segment(keys, keys, keys[:, :1, :, 0])
    moved = segment.map_rows(lambda tensor: tensor.flip(0))
    assert (moved is segment) == (rows == 1)
    assert torch.equal(moved.keys, keys.flip(0))
    assert moved.bias is not None and torch.equal(moved.bias, keys.flip(0)[:, :1, :, 0])
