"""Digests of tensors' values: every bit for equality, strided samples for other dtypes.

Knows tensors of any kind, quantised ones too; nothing of models.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

_CHUNK = 1 << 13
"""Eight-byte words that are summed together."""

_SAMPLES = 1 << 12
_FEW = 64


def parts_of(value: Any) -> list[Any]:
    """Return the plain tensors, and the texts of everything else, that make up a value.

    A quantised tensor is its integers and its scales; a tensor made of others is those.
    """
    if isinstance(value, Tensor):
        if value.is_quantized:
            return [value.int_repr(), *_quantiser(value)]
        if hasattr(value, "__tensor_flatten__"):
            names, _ = value.__tensor_flatten__()
            return [part for name in names for part in parts_of(getattr(value, name))]
        return [value.detach()]
    if isinstance(value, Mapping):
        return [part for name in value for part in (str(name), *parts_of(value[name]))]
    if isinstance(value, list | tuple):
        return [part for entry in value for part in parts_of(entry)]
    if isinstance(value, str | bytes | int | float | bool | torch.dtype) or value is None:
        return [str(value)]
    return [type(value).__name__]  # an object whose text may hold an address


def exact_digest(value: Any) -> bytes:
    """Return 32 bytes that change with any one bit of a value: sums of its words, and samples.

    ```python
    exact_digest(weight) == exact_digest(weight.clone())      # True
    ```

    Not seen: words of one 64 KB block that change places, unless a sample falls on them.
    """

    def of_tensor(part: Tensor) -> bytes:
        head = f"{part.dtype}{tuple(part.shape)}".encode()
        return head + _word_sums(part) + _bytes(_sampled(part, _SAMPLES))

    return _digest(value, of_tensor)


def sampled_digest(value: Any, dtype: torch.dtype) -> bytes:
    """Return 32 bytes of up to 4,096 values of each tensor as they are in another dtype."""

    def of_tensor(part: Tensor) -> bytes:
        few = _sampled(part, _SAMPLES)
        few = few.to(dtype) if few.is_floating_point() else few
        return str(tuple(part.shape)).encode() + _bytes(few)

    return _digest(value, of_tensor)


def _digest(value: Any, of_tensor: Callable[[Tensor], bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts_of(value):
        digest.update(part.encode() + b"\0" if isinstance(part, str) else of_tensor(part))
    return digest.digest()


def states_of(tensors: Iterable[Tensor]) -> list[tuple[Any, ...]]:
    """Return for each plain tensor what tells cheaply whether it is still the same: its address,
    version, shape, dtype and 64 of its values. One transfer for each device and dtype."""
    tensors = list(tensors)
    samples = [_sampled(tensor, _FEW) for tensor in tensors]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, sample in enumerate(samples):
        groups.setdefault((sample.device, sample.dtype), []).append(number)
    seen: dict[int, bytes] = {}
    for numbers in groups.values():
        joined = _bytes(torch.cat([samples[number] for number in numbers]))
        start = 0
        for number in numbers:
            stop = start + samples[number].numel() * samples[number].element_size()
            seen[number], start = joined[start:stop], stop
    return [
        (tensor.data_ptr(), _version(tensor), tuple(tensor.shape), tensor.dtype, seen[number])
        for number, tensor in enumerate(tensors)
    ]


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _quantiser(value: Tensor) -> list[Any]:
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return [f"{value.q_scale()!r} {value.q_zero_point()}"]
    axis = value.q_per_channel_axis()
    return [value.q_per_channel_scales(), value.q_per_channel_zero_points(), str(axis)]


def _sampled(tensor: Tensor, count: int) -> Tensor:
    """At most `count` values at equal distances."""
    flat = tensor.reshape(-1) if tensor.is_contiguous() else tensor.contiguous().reshape(-1)
    if flat.numel() <= count:
        return flat
    step = flat.numel() // count
    step += 1 - step % 2  # odd, so that the samples do not all fall into one column
    return flat[::step][:count]


def _word_sums(tensor: Tensor) -> bytes:
    """Sums of the eight-byte words of each block; the rest of the bytes as they are."""
    raw = tensor.contiguous().reshape(-1)
    raw = raw.view(torch.uint8) if raw.dtype != torch.bool else raw.to(torch.uint8)
    block = _CHUNK * 8
    whole = raw.numel() // block * block
    if not whole:
        return _bytes(raw)
    aligned = raw[:whole]
    if aligned.storage_offset() % 8:
        aligned = aligned.clone()
    sums = aligned.view(torch.int64).view(-1, _CHUNK).sum(1)
    return _bytes(sums) + _bytes(raw[whole:])


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous()
    if flat.dtype == torch.bool:
        flat = flat.to(torch.uint8)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
