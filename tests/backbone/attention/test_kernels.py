"""Which kernel is chosen, that each agrees with attention written out, and what a step costs."""

import itertools

import pytest
import torch
from torch import Tensor

from tasm.backbone.attention.kernels import merge, partial_attention, written_out_attention
from tasm.backbone.attention.kernels.choosing import kernel_for
from tasm.backbone.attention.kernels.fused import cuda_efficient, cuda_flash, flex

pytestmark = pytest.mark.matrix

FLOAT, HALF = torch.float32, torch.bfloat16


@pytest.mark.parametrize(
    ("device", "dtype", "sizes", "bias", "softcap", "kernel"),
    [
        ("cpu", FLOAT, (64, 64), None, None, "cpu flash"),
        ("cpu", HALF, (64, 64), FLOAT, None, "cpu flash"),
        ("cpu", FLOAT, (64, 64), None, 30.0, "written out"),
        ("cpu", FLOAT, (64, 32), None, None, "written out"),
        ("mps", FLOAT, (64, 64), None, None, "written out"),
        ("cuda", HALF, (128, 128), None, None, "cuda flash"),
        ("cuda", HALF, (128, 128), HALF, None, "cuda efficient"),
        ("cuda", FLOAT, (128, 128), None, None, "cuda efficient"),
        ("cuda", FLOAT, (128, 128), FLOAT, None, "cuda efficient"),
        ("cuda", HALF, (128, 128), FLOAT, None, "flex"),
        ("cuda", HALF, (128, 128), None, 30.0, "flex"),
        ("cuda", HALF, (100, 100), None, None, "flex"),
    ],
)
def test_the_choice(
    device: str,
    dtype: torch.dtype,
    sizes: tuple[int, int],
    bias: torch.dtype | None,
    softcap: float | None,
    kernel: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added = None if bias is None else torch.zeros(1, 1, 1, 5, dtype=bias)
    there = "tasm.backbone.attention.kernels.choosing._has_triton"
    monkeypatch.setattr(there, lambda: True)
    assert kernel_for(device, dtype, *sizes, added, softcap) == kernel
    monkeypatch.setattr(there, lambda: False)
    without = "written out" if kernel == "flex" else kernel
    assert kernel_for(device, dtype, *sizes, added, softcap) == without


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [None, (1, 1, 1), (2, 6, 9), (1, 6, 1)])
def test_flex_agrees(
    sizes: tuple[int, int, int] | None, causal: bool, softcap: float | None
) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 6, 9, 16)
    key, value = torch.randn(2, 2, 2, 9, 16)
    bias = None if sizes is None else torch.randn(*sizes, 9)
    output, sums = flex(query, key, value, bias, 0.3, causal, softcap)
    # Written out takes a bias a KV head; one a query head is told as one KV head each.
    alone = (t.repeat_interleave(3, 1) for t in (key, value))
    expected = written_out_attention(query, *alone, bias, 0.3, softcap, causal)
    torch.testing.assert_close(output, expected[0], atol=2e-6, rtol=0)
    torch.testing.assert_close(sums, expected[1], atol=2e-6, rtol=0)


@pytest.mark.parametrize("rows", [1, 40])
def test_the_cuda_kernels_are_called_as_they_want(rows: int) -> None:
    """Shapes and dtypes only: the operators' own checks, without a device."""
    query = torch.empty(2, 6, rows, 64, device="meta", dtype=HALF)
    key = torch.empty(2, 2, 33, 64, device="meta", dtype=HALF)
    bias = torch.empty(1, 1, rows, 33, device="meta", dtype=HALF)
    for kernel, given in ((cuda_flash, None), (cuda_efficient, None), (cuda_efficient, bias)):
        output, sums = kernel(query, key, key, given, 0.125, False)
        assert output.shape == query.shape and output.dtype == HALF
        assert sums.shape == (2, 6, rows) and sums.dtype == FLOAT


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
        exact = written_out(query.double(), key.double(), value.double())
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


def written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    return (query @ key.transpose(2, 3) * 0.125).softmax(-1) @ value
