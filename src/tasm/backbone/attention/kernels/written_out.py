"""Attention in plain operations: any device, any dtype, soft capping; the oracle of the kernels.

And the same for autograd: the fused kernels give no gradient of the log-sum-exp, by which runs are
merged.
"""

import torch
from torch import Tensor
from torch.nn.functional import threshold

_BLOCK = 1 << 24
"""Logits held at once, in elements, on a CPU."""

_TAKES_OUT_DTYPE = hasattr(torch.ops.aten.bmm, "dtype")
"""Whether a product of 16-bit numbers can be asked for in float32, on CUDA (torch 2.8)."""

_FILLS, _MOST_THERE = 1 << 25, 1 << 26

_NOTHING = 1.7e-38
"""Just above e^-87."""


def numbers_at_once(wanted: int, least: int, most: int, device: torch.device) -> int:
    """Return how many numbers are held at once where something is computed block by block:
    `wanted`, within `least` and `most` on a CPU, within 32 and 64 million elsewhere.

    An accelerator takes as long for a block that does not fill it, and has room beside the weights.

    ```python
    >>> numbers_at_once(1000, 4096, 1 << 22, torch.device("cpu"))
    4096
    ```
    """
    if device.type != "cpu":
        least, most = _FILLS, _MOST_THERE
    return min(most, max(least, wanted))


def written_out_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """The same as `partial_attention`, written out block of rows by block of rows."""
    batch, query_heads, rows, _ = query.shape
    tokens = key.shape[2]
    most = numbers_at_once(_BLOCK, _BLOCK, _BLOCK, query.device)
    step = max(1, most // max(1, batch * query_heads * tokens))
    if not _multiplies_halves(key):
        key, value = key.float(), value.float()  # once, not for every block
    outputs, sums = [], []
    for first in range(0, rows, step):
        block = query[:, :, first : first + step]
        mask = bias if bias is None or bias.shape[2] == 1 else bias[:, :, first : first + step]
        if causal:
            here = torch.arange(first, first + block.shape[2], device=query.device)[:, None]
            later = torch.arange(tokens, device=query.device) > here
            hidden = torch.where(later, torch.finfo(torch.float32).min, 0.0)[None, None]
            mask = hidden if mask is None else mask + hidden
        logits = grouped_logits(block, key, mask, scaling, softcap)
        log_sum_exp = logits.logsumexp(-1)
        weights = exponentials(logits.sub_(log_sum_exp[..., None]))
        mixed = _product(weights.flatten(2, 3), value)
        outputs.append(mixed.reshape(batch, query_heads, block.shape[2], -1).to(query.dtype))
        sums.append(log_sum_exp.flatten(1, 2))
    return torch.cat(outputs, 2), torch.cat(sums, 2)


def differentiable_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """The same as `partial_attention`, in operations that autograd knows; all logits are held, and
    output and log-sum-exp both have gradients, of queries, keys, values and bias."""
    logits = grouped_logits(query.float(), key.float(), bias, scaling, softcap)
    if causal:
        later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=query.device).triu(1)
        logits = logits.masked_fill(later, torch.finfo(torch.float32).min)
    log_sum_exp = logits.logsumexp(-1)
    weights = (logits - log_sum_exp[..., None]).exp()
    mixed = _product(weights.flatten(2, 3), value.float())
    output = mixed.reshape(*query.shape[:3], -1).to(query.dtype)
    return output, log_sum_exp.flatten(1, 2)


def grouped_logits(
    query: Tensor, key: Tensor, bias: Tensor | None, scaling: float, softcap: float | None
) -> Tensor:
    """Return float32 logits (batch, kv_heads, group, rows, tokens): scaled, soft-capped, biased.

    Shapes are those of `partial_attention`.
    """
    batch, query_heads, rows, head_dim = query.shape
    kv_heads = key.shape[1]
    packed = query.reshape(batch, kv_heads, -1, head_dim)
    logits = _product(packed, key.transpose(2, 3)).mul_(scaling)
    logits = logits.unflatten(2, (query_heads // kv_heads, rows))
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    return logits if bias is None else logits.add_(bias.unsqueeze(2))


def exponentials(logs: Tensor) -> Tensor:
    """Return `logs.exp_()`, float32: what is below e^-87, the smallest number of full precision, is
    nothing. On a CPU such a number, as of a token that is masked, takes ten times as long.

    ```python
    >>> exponentials(torch.tensor([0.0, -100.0, -torch.inf]))
    tensor([1., 0., 0.])
    ```
    """
    if logs.device.type != "cpu":
        return logs.exp_()
    return threshold(logs.clamp_(min=-87.0).exp_(), _NOTHING, 0.0, inplace=True)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right` in float32, (batch, heads, rows, columns): rounded to 16 bits nowhere on the
    way, as logits must not be. A `right` of batch 1 is read once for all rows of the batch."""
    batch, heads, rows, _ = left.shape
    folds = right.shape[0] == 1 and batch > 1
    if folds:
        left = left.transpose(0, 1).reshape(1, heads, batch * rows, -1)
    product = float32_product(left.flatten(0, 1), right.flatten(0, 1))
    if folds:
        return product.view(heads, batch, rows, -1).transpose(0, 1)
    return product.view(batch, heads, rows, -1)


def float32_product(left: Tensor, right: Tensor) -> Tensor:
    """Return `torch.bmm(left, right)` in float32, whatever the dtypes.

    On CUDA 16-bit numbers of `right` are multiplied as they are, and `left` is rounded to them;
    sums are float32 everywhere.
    """
    if _multiplies_halves(right):
        return torch.bmm(left.to(right.dtype), right, out_dtype=torch.float32)
    return torch.bmm(left.float(), right.float())


def _multiplies_halves(stored: Tensor) -> bool:
    halves = stored.dtype in (torch.float16, torch.bfloat16)
    return halves and stored.device.type == "cuda" and _TAKES_OUT_DTYPE
