"""Partial attention and its merge against attention written out in float64."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tasm.backbone.attention.kernels import (
    merge,
    partial_attention,
    total_log_sum_exp,
    written_out_attention,
)
from tasm.backbone.attention.segment import UNUSED


def plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scaling: float,
    softcap: float | None,
    causal: bool,
) -> tuple[Tensor, Tensor]:
    """Attention head by head and row by row."""
    batch, heads, rows, _ = query.shape
    group = heads // key.shape[1]
    output = torch.zeros(batch, heads, rows, value.shape[3], dtype=torch.float64)
    sums = torch.zeros(batch, heads, rows, dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            k = key[b if key.shape[0] > 1 else 0, h // group].double()
            v = value[b if value.shape[0] > 1 else 0, h // group].double()
            for r in range(rows):
                logits = k @ query[b, h, r].double() * scaling
                if softcap is not None:
                    logits = softcap * torch.tanh(logits / softcap)
                if bias is not None:
                    whole = bias.expand(batch, key.shape[1], rows, key.shape[2])
                    logits = logits + whole[b, h // group, r].double()
                if causal:
                    logits[r + 1 :] = -torch.inf
                output[b, h, r] = logits.softmax(0) @ v
                sums[b, h, r] = logits.logsumexp(0)
    return output, sums


@given(
    batch=st.sampled_from([1, 3]),
    shared=st.booleans(),
    group=st.sampled_from([1, 3]),
    rows=st.sampled_from([1, 4, 18]),
    bias=st.sampled_from([None, (0, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1), (1, 1, 1)]),
    softcap=st.sampled_from([None, 5.0]),
    seed=st.integers(0, 100),
)
def test_partial_attention_equals_plain(
    batch: int,
    shared: bool,
    group: int,
    rows: int,
    bias: tuple[int, int, int] | None,
    softcap: float | None,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens, kv_heads = 7, 2
    query = torch.randn(batch, kv_heads * group, rows, 8, generator=generator)
    key, value = torch.randn(2, 1 if shared else batch, kv_heads, tokens, 8, generator=generator)
    added = None
    if bias is not None:
        sizes = [n if wide else 1 for wide, n in zip(bias, (batch, kv_heads, rows), strict=True)]
        added = torch.randn(*sizes, tokens, generator=generator)
    expected = plain(query, key, value, added, 0.3, softcap, False)
    for attention in (partial_attention, written_out_attention):
        output, sums = attention(query, key, value, added, 0.3, softcap)
        torch.testing.assert_close(output.double(), expected[0], atol=2e-6, rtol=0)
        torch.testing.assert_close(sums.double(), expected[1], atol=2e-6, rtol=0)


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("batch", [1, 2])
def test_causal(batch: int, softcap: float | None) -> None:
    torch.manual_seed(0)
    query = torch.randn(batch, 6, 9, 8)
    key, value = torch.randn(2, batch, 2, 9, 8)
    output, sums = partial_attention(query, key, value, None, 0.3, softcap, causal=True)
    expected = plain(query, key, value, None, 0.3, softcap, True)
    torch.testing.assert_close(output.double(), expected[0], atol=2e-6, rtol=0)
    torch.testing.assert_close(sums.double(), expected[1], atol=2e-6, rtol=0)


def test_a_kernel_without_grouped_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 6, 18, 8)
    key, value = torch.randn(2, 2, 2, 18, 8)
    grouped = partial_attention(query, key, value, None, 0.3, causal=True)
    monkeypatch.setattr("tasm.backbone.attention.kernels.fused._TAKES_GROUPED_HEADS", False)
    repeated = partial_attention(query, key, value, None, 0.3, causal=True)
    for a, b in zip(grouped, repeated, strict=True):
        torch.testing.assert_close(a, b)


def test_written_out_blocks_agree_with_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 4, 11, 8)
    key, value = torch.randn(2, 1, 2, 13, 8)
    bias = torch.randn(2, 2, 11, 13)
    whole = written_out_attention(query, key, value, bias, 0.3)
    monkeypatch.setattr("tasm.backbone.attention.kernels.written_out._BLOCK", 2 * 4 * 13 * 3)
    blocks = written_out_attention(query, key, value, bias, 0.3)
    for a, b in zip(whole, blocks, strict=True):
        torch.testing.assert_close(a, b)


@given(cuts=st.lists(st.integers(1, 11), max_size=4, unique=True), sink=st.booleans())
def test_merging_runs_equals_one_softmax(cuts: list[int], sink: bool) -> None:
    torch.manual_seed(len(cuts))
    query = torch.randn(2, 4, 3, 8)
    key, value = torch.randn(2, 2, 2, 12, 8)
    edges = [0, *sorted(cuts), 12]
    parts = [
        partial_attention(query, key[:, :, a:b], value[:, :, a:b], None, 0.3)
        for a, b in itertools.pairwise(edges)
    ]
    logit = torch.randn(4) if sink else None
    added = None if logit is None else logit.view(1, 4, 1)
    output, sums = merge(parts, added), total_log_sum_exp(parts, added)
    expected, expected_sums = plain(query, key, value, None, 0.3, None, False)
    if logit is not None:
        total = torch.logaddexp(expected_sums, logit.double().view(1, 4, 1))
        expected, expected_sums = expected * (expected_sums - total).exp()[..., None], total
    torch.testing.assert_close(output.double(), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(sums.double(), expected_sums, atol=2e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_unused_slots_change_nothing(dtype: torch.dtype, softcap: float | None) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 4, 1, 8, dtype=dtype)
    key, value = torch.randn(2, 1, 2, 5, 8, dtype=dtype)
    used = partial_attention(query, key, value, None, 0.3, softcap)
    empty = partial_attention(query, key, value, torch.full((1, 1, 1, 5), UNUSED), 0.3, softcap)
    output, sums = merge([used, empty]), total_log_sum_exp([used, empty])
    assert torch.equal(output, used[0])
    assert torch.equal(sums, used[1])
    # Nothing but unused slots: weights are meaningless, but finite.
    nothing, lowest = merge([empty, empty]), total_log_sum_exp([empty, empty])
    assert bool(nothing.isfinite().all()) and bool(lowest.isfinite().all())


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_a_run_without_keys_adds_nothing(softcap: float | None) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 4, 3, 8)
    key, value = torch.randn(2, 1, 2, 5, 8)
    used = partial_attention(query, key, value, None, 0.3, softcap)
    none = partial_attention(query, key[:, :, :0], value[:, :, :0], None, 0.3, softcap)
    assert torch.equal(merge([used, none]), used[0])
    assert torch.equal(total_log_sum_exp([none, used]), used[1])


def test_a_run_that_is_merged_with_none_holds_no_logits_for_a_gradient() -> None:
    """A plain forward pass to be trained runs the fused kernel, and its gradient is right."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, 6, 8, generator=generator)
    key, value = torch.randn(2, 2, 2, 6, 8, generator=generator)
    found = []
    for alone in (True, False):
        leaves = [one.clone().requires_grad_() for one in (query, key, value)]
        output, _ = partial_attention(*leaves, None, 8**-0.5, causal=True, alone=alone)
        output.pow(3).sum().backward()
        found.append((output, *(one.grad for one in leaves)))
    assert "Flash" in type(found[0][0].grad_fn).__name__
    assert "Flash" not in type(found[1][0].grad_fn).__name__
    for fused, followed in zip(*found, strict=True):
        torch.testing.assert_close(fused, followed)
