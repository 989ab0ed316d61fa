"""Which kernel is chosen, that each agrees with attention written out, and what a step costs."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from tasm.backbone.attention.kernels import (
    choosing,
    exponentials,
    merge,
    partial_attention,
    written_out_attention,
)
from tasm.backbone.attention.kernels.choosing import kernel_for
from tasm.backbone.attention.kernels.fused import (
    WIDER,
    cuda_efficient,
    cuda_flash,
    cuda_flash_widened,
    widened,
)
from tasm.backbone.attention.segment import UNUSED
from tests.pretended_device import pretending, values

pytestmark = pytest.mark.matrix

FLOAT, HALF = torch.float32, torch.bfloat16


def test_exponentials_are_exact_down_to_the_smallest_number_of_full_precision() -> None:
    logs = torch.cat([torch.linspace(-86.9, 2.0, 1001), torch.tensor([torch.nan])])
    small = torch.tensor([-88.0, -104.0, torch.finfo(FLOAT).min, -torch.inf])
    found = exponentials(torch.cat([small, logs]))
    assert torch.equal(found[:4], torch.zeros(4))
    assert torch.equal(found[4:-1], logs[:-1].exp())
    assert found[-1].isnan()


@pytest.mark.parametrize(
    ("device", "dtype", "sizes", "bias", "softcap", "kernel"),
    [
        ("cpu", FLOAT, (64, 64), None, None, "cpu flash"),
        ("cpu", HALF, (64, 64), FLOAT, None, "cpu flash"),
        ("cpu", FLOAT, (64, 64), None, 30.0, "written out"),
        ("cpu", FLOAT, (64, 32), None, None, "written out"),
        ("mps", FLOAT, (64, 64), None, None, "written out"),
        ("cuda", HALF, (128, 128), None, None, "cuda flash"),
        ("cuda", HALF, (256, 256), None, None, "cuda flash"),
        ("cuda", HALF, (128, 128), HALF, None, "cuda efficient"),
        ("cuda", FLOAT, (128, 128), None, None, "cuda efficient"),
        ("cuda", FLOAT, (128, 128), FLOAT, None, "cuda efficient"),
        ("cuda", HALF, (128, 128), FLOAT, None, "cuda flash, widened"),
        ("cuda", HALF, (256, 256), FLOAT, None, "written out"),
        ("cuda", HALF, (128, 128), None, 30.0, "written out"),
        ("cuda", HALF, (100, 100), None, None, "written out"),
        ("older cuda", torch.float16, (128, 128), None, None, "cuda efficient"),
        ("older cuda", FLOAT, (128, 128), FLOAT, None, "cuda efficient"),
        ("older cuda", torch.float16, (128, 128), FLOAT, None, "written out"),
        ("older cuda", HALF, (128, 128), None, None, "written out"),
    ],
)
def test_the_choice(
    device: str,
    dtype: torch.dtype,
    sizes: tuple[int, int],
    bias: torch.dtype | None,
    softcap: float | None,
    kernel: str,
) -> None:
    added = None if bias is None else torch.zeros(1, 1, 1, 5, dtype=bias)
    assert kernel_for(device, dtype, *sizes, 1, added, softcap) == kernel


@pytest.mark.parametrize(
    ("bias", "key_batch", "kernel"),
    [
        ((1, 2, 1), 4, "cuda flash, widened"),
        ((4, 1, 1), 4, "cuda flash, widened"),
        ((4, 1, 1), 1, "written out"),  # the shared keys would be copied for every row
        ((1, 1, 3), 1, "written out"),  # a key carries one number for all queries
    ],
)
def test_which_biases_keys_carry(bias: tuple[int, int, int], key_batch: int, kernel: str) -> None:
    assert kernel_for("cuda", HALF, 64, 64, key_batch, torch.zeros(*bias, 5), None) == kernel


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sizes", [(1, 1), (1, 2), (3, 2)])
def test_widened_keys_carry_the_bias(dtype: torch.dtype, sizes: tuple[int, int]) -> None:
    """Written out in float64 over the widened 16-bit numbers: the same as with the bias added."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, 2, rows, 16).to(dtype) for rows in (5, 9, 9))
    bias = 6 * torch.rand(*sizes, 1, 9)
    bias[..., 4] = UNUSED
    wide = widened(query, key, value, bias, 0.3)
    assert all(one.shape[3] == 16 + WIDER and one.dtype == dtype for one in wide)
    plain = [one.double() for one in (query, key, value)]
    expected = written_out(*plain, 0.3, bias.double())
    output = written_out(*(one.double() for one in wide), 0.3)
    torch.testing.assert_close(output[..., :16], expected, atol=1e-6, rtol=0)
    assert not output[..., 16:].any()


@pytest.mark.parametrize("batches", [(1, 1), (1, 4), (4, 4)])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_written_out_is_attention(batches: tuple[int, int], softcap: float | None) -> None:
    """Keys of one memory for a whole batch, and keys a row: against float64, expanded."""
    torch.manual_seed(0)
    key_batch, batch = batches
    query, bias = torch.randn(batch, 6, 5, 16), torch.randn(batch, 2, 1, 9)
    key, value = torch.randn(2, key_batch, 2, 9, 16)
    output, sums = written_out_attention(query, key, value, bias, 0.3, softcap)
    keys, values, added = (t.double().repeat_interleave(3, 1) for t in (key, value, bias))
    logits = query.double() @ keys.transpose(2, 3) * 0.3
    logits = (logits if softcap is None else torch.tanh(logits / softcap) * softcap) + added
    torch.testing.assert_close(output.double(), logits.softmax(-1) @ values, atol=2e-6, rtol=0)
    torch.testing.assert_close(sums.double(), logits.logsumexp(-1), atol=2e-6, rtol=0)


@pytest.mark.parametrize("rows", [1, 40])
def test_the_cuda_kernels_are_called_as_they_want(rows: int) -> None:
    """Shapes and dtypes only: the operators' own checks, without a device."""
    query = torch.empty(2, 6, rows, 64, device="meta", dtype=HALF)
    key = torch.empty(2, 2, 33, 64, device="meta", dtype=HALF)
    mask = torch.empty(1, 1, rows, 33, device="meta", dtype=HALF)
    bias = torch.empty(1, 2, 1, 33, device="meta")
    for kernel, given in (
        (cuda_flash, None),
        (cuda_flash_widened, bias),
        (cuda_efficient, None),
        (cuda_efficient, mask),
    ):
        output, sums = kernel(query, key, key, given, 0.125, False)
        assert output.shape == query.shape and output.dtype == HALF
        assert sums.shape == (2, 6, rows) and sums.dtype == FLOAT


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("heads", [None, 1, 2, 6])
def test_the_memory_efficient_kernel_shares_keys_by_strides(batch: int, heads: int | None) -> None:
    """On a pretended device, which wants the strides that CUDA wants; keys are never repeated."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(batch, n, 13, 8) for n in (6, 2, 2))
    bias = None if heads is None else torch.randn(1, heads, 13, 13)
    added = 0.0 if bias is None else bias.repeat_interleave(6 // bias.shape[1], 1)
    expected = written_out(query, key, value, 0.3, added)
    with pretending() as watch:
        there = [one if one is None else one.to("pretended") for one in (query, key, value, bias)]
        output, sums = cuda_efficient(*there, 0.3, False)
        assert "repeat_interleave" not in watch.operations and sums.shape == (batch, 6, 13)
    torch.testing.assert_close(values(output), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sizes", [(3, 1, 5), (3, 2, 5), (3, 2, 1), (1, 1, 5)])
def test_shared_keys_are_read_once_under_biases_of_their_rows(
    sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As beside a layer with a window on CUDA, for several rows of one memory in float32."""
    torch.manual_seed(0)
    query, bias = torch.randn(3, 6, 5, 8), torch.randn(*sizes, 13)
    key, value = torch.randn(2, 1, 2, 13, 8)
    expected = written_out_attention(query, key, value, bias, 0.3)
    batches = []

    def watched(*given: Any) -> tuple[Tensor, Tensor]:
        batches.append(given[1].shape[0])
        return cuda_efficient(*given)

    monkeypatch.setattr(choosing, "kernel_for", lambda *asked: "cuda efficient")
    monkeypatch.setitem(choosing._FUSED, "cuda efficient", watched)
    with pretending():
        there = [one.to("pretended") for one in (query, key, value, bias)]
        found = partial_attention(*there, 0.3)
    assert batches == [1]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(values(one), other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("batch", [1, 3])
def test_sixteen_bits_lose_no_more_than_stock(dtype: torch.dtype, rows: int, batch: int) -> None:
    """Against float64 on the same 16-bit numbers: at most 1.5 times what stock attention errs."""
    ours, stock = [], []
    for seed in range(6):
        torch.manual_seed(seed)
        query = torch.randn(batch, 8, rows, 64).to(dtype)
        key, value = (2 * torch.randn(2, 1, 2, 700, 64)).to(dtype)
        exact = written_out(query.double(), key.double(), value.double(), 0.125)
        cuts = (0, 500, 650, 700)
        parts = [
            partial_attention(query, key[:, :, a:b], value[:, :, a:b], None, 0.125)
            for a, b in itertools.pairwise(cuts)
        ]
        ours.append((merge(parts).double() - exact).pow(2).mean())
        whole = [t.expand(batch, -1, -1, -1).repeat_interleave(4, 1) for t in (key, value)]
        plain = torch.nn.functional.scaled_dot_product_attention(query, *whole, scale=0.125)
        stock.append((plain.double() - exact).pow(2).mean())
    assert torch.stack(ours).mean().sqrt() <= 1.5 * torch.stack(stock).mean().sqrt()


def written_out(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, bias: Tensor | float = 0.0
) -> Tensor:
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    return (query @ key.transpose(2, 3) * scaling + bias).softmax(-1) @ value
