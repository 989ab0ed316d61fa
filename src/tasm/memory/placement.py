"""A memory's tensors on the devices and in the dtype that a model runs with.

Made once for each choice and shared by all caches made for it. Where a bank is best searched is
decided here, too. Knows tensors and devices; nothing of gates' decisions or files.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tasm.backbone.attention.segment import Segment
from tasm.errors import InputError
from tasm.memory.layer import LayerTokens
from tasm.memory.packing.core import Core, PackedCore
from tasm.memory.retrieval.bank import Bank

Unpack = Literal["once", "each step"]
"""When packed keys and values become plain: once for all caches, or each time a layer is read."""

Devices = torch.device | str | Sequence[torch.device | str] | None


_LARGEST_SHARE = 0.25
"""Of a device's free memory: a bank that needs more stays in host memory."""


@dataclass(frozen=True, eq=False)
class Placed:
    """What caches for one choice of devices and dtype share.

    Attributes:
        segments: each layer's core, or None.
        distributions: the gate's reference of each layer, or None.
        states: of linear-attention layers, or None.
    """

    segments: tuple[Segment | None, ...]
    distributions: tuple[Tensor | None, ...]
    states: tuple[dict[str, Tensor] | None, ...]


class Placement:
    """Every placement of one memory that was asked for so far."""

    def __init__(self) -> None:
        self._placed: dict[object, Placed] = {}
        self._banks: dict[tuple[str, object], Bank] = {}
        self._fits: dict[object, bool] = {}
        self._lock = threading.Lock()

    def core(
        self, contents: Core, devices: Devices, dtype: torch.dtype | None, unpack: Unpack = "once"
    ) -> Placed:
        """The core's tensors as asked; those that lie so already are not copied."""
        key = _key(devices, dtype), unpack
        with self._lock:
            if key not in self._placed:
                self._placed[key] = _place(contents, devices, dtype, unpack)
            return self._placed[key]

    def bank(
        self, bank: Bank, devices: Devices, dtype: torch.dtype | None, where: str = "auto"
    ) -> Bank:
        """The bank where it is to be searched.

        "device" puts a copy of all of it beside each layer; one that lies on disk is read and
        checked. "host" leaves it in host memory, or on disk. "auto" is "device" where every layer
        is on an accelerator and the copy takes at most `_LARGEST_SHARE` of each device's free
        memory, decided once and in the same way for a bank on disk; else "host".
        """
        chosen, key = _per_layer(devices, len(bank.layers)), _key(devices, dtype)
        with self._lock:
            if where == "auto":
                if key not in self._fits:
                    self._fits[key] = _fits(bank, chosen, dtype)
                where = "device" if self._fits[key] else "host"
            if (where, key) not in self._banks:
                on_device = where == "device"
                made = _moved_bank(bank, chosen, dtype) if on_device else _hosted(bank)
                self._banks[where, key] = made
            return self._banks[where, key]


def _moved_bank(
    bank: Bank, devices: Sequence[torch.device | str | None], dtype: torch.dtype | None
) -> Bank:
    return Bank(
        [
            None if layer is None else layer.held().to(device, dtype)
            for layer, device in zip(bank.layers, devices, strict=True)
        ]
    )


def _hosted(bank: Bank) -> Bank:
    """The bank itself where it lies in host memory or on disk, else a copy there."""
    if all(layer is None or layer.device.type == "cpu" for layer in bank.layers):
        return bank
    return _moved_bank(bank, ["cpu"] * len(bank.layers), None)


def _fits(
    bank: Bank, devices: Sequence[torch.device | str | None], dtype: torch.dtype | None
) -> bool:
    """Whether every layer of the bank is wanted on an accelerator that has room for it."""
    needed: dict[torch.device, int] = {}
    for layer, device in zip(bank.layers, devices, strict=True):
        if layer is None:
            continue
        where = torch.empty(0, device=device or layer.device).device
        widened = 1 if dtype is None else max(1, dtype.itemsize // layer.dtype.itemsize)
        needed[where] = needed.get(where, 0) + layer.nbytes * widened
    return all(size <= _LARGEST_SHARE * free_bytes(where) for where, size in needed.items())


def free_bytes(device: torch.device) -> int:
    """Bytes that are free on an accelerator; 0 for a CPU, and where the device does not say."""
    if device.type != "cuda":
        return 0
    return int(torch.cuda.mem_get_info(device)[0])


def convert(tokens: LayerTokens | None, dtype: torch.dtype) -> LayerTokens | None:
    """A layer's keys and values in `dtype`.

    Raises:
        InputError: one of them is too large for it.
    """
    if tokens is None:
        return None
    narrowed = tokens.to(dtype=dtype)
    for name, before, after in (
        ("key", tokens.keys, narrowed.keys),
        ("value", tokens.values, narrowed.values),
    ):
        if bool(after.isinf().any()):
            raise InputError(
                f"A {name} of size {before.abs().max():.0f} does not fit {dtype}, which ends at "
                f"{torch.finfo(dtype).max:.0f}. Store the memory as bfloat16 or float32."
            )
    return narrowed


def convert_bank(bank: Bank | None, dtype: torch.dtype) -> Bank | None:
    """A bank's keys and values in `dtype`, held in memory."""
    if bank is None:
        return None
    return Bank([None if one is None else convert(one.held(), dtype) for one in bank.layers])


def _per_layer(devices: Devices, layers: int) -> list[torch.device | str | None]:
    """One device a layer.

    Raises:
        InputError: there are more or fewer devices than layers.
    """
    if devices is None or isinstance(devices, torch.device | str):
        return [devices] * layers
    if len(devices) != layers:
        raise InputError(f"{len(devices)} devices were given for a memory of {layers} layers.")
    return list(devices)


def _key(devices: Devices, dtype: torch.dtype | None) -> object:
    if devices is None:
        return None, dtype
    listed = [devices] if isinstance(devices, torch.device | str) else devices
    # Asked of a tensor, because "cuda" and "cuda:0" are one place.
    return tuple(str(torch.empty(0, device=device).device) for device in listed), dtype


def _place(contents: Core, devices: Devices, dtype: torch.dtype | None, unpack: Unpack) -> Placed:
    layers: Sequence[LayerTokens | None] = contents.layers
    packed = contents if isinstance(contents, PackedCore) and unpack == "each step" else None
    chosen = _per_layer(devices, len(layers))
    segments: list[Segment | None] = []
    distributions, states = [], []
    for layer, device in enumerate(chosen):
        distribution = contents.distributions[layer]
        if packed is not None:
            segments.append(packed.segment(layer, device, dtype))
        else:
            kept = layers[layer]
            is_empty = kept is None or kept.keys.shape[1] == 0
            segments.append(None if kept is None or is_empty else kept.segment(device, dtype))
        distributions.append(None if distribution is None else distribution.to(device))
        state = contents.states[layer]
        moved = {name: part.to(device=device) for name, part in (state or {}).items()}
        states.append(None if state is None else moved)
    return Placed(tuple(segments), tuple(distributions), tuple(states))
