"""A memory's tensors on the devices and in the dtype that a model runs with.

Made once for each choice and shared by all caches made for it. Knows tensors and devices; nothing
of gates' decisions or files.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.backbone.attention.segment import Segment
from tasm.errors import InputError
from tasm.memory.contents import CoreContents
from tasm.memory.retrieval.bank import Bank

Devices = torch.device | str | Sequence[torch.device | str] | None


@dataclass(frozen=True)
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
        self._banks: dict[object, Bank] = {}
        self._lock = threading.Lock()

    def core(self, contents: CoreContents, devices: Devices, dtype: torch.dtype | None) -> Placed:
        """The core's tensors as asked; those that lie so already are not copied."""
        key = _key(devices, dtype)
        with self._lock:
            if key not in self._placed:
                self._placed[key] = _place(contents, devices, dtype)
            return self._placed[key]

    def bank(self, bank: Bank, devices: Devices, dtype: torch.dtype | None) -> Bank:
        """The whole bank in memory on those devices; one that lies on disk is read and checked."""
        key = _key(devices, dtype)
        with self._lock:
            if key not in self._banks:
                chosen = per_layer(devices, len(bank.layers))
                self._banks[key] = Bank(
                    [
                        None if layer is None else layer.held().to(device, dtype)
                        for layer, device in zip(bank.layers, chosen, strict=True)
                    ]
                )
            return self._banks[key]


def per_layer(devices: Devices, layers: int) -> list[torch.device | str | None]:
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


def _place(contents: CoreContents, devices: Devices, dtype: torch.dtype | None) -> Placed:
    chosen = per_layer(devices, len(contents.layers))
    segments, distributions, states = [], [], []
    for layer, device in enumerate(chosen):
        kept, distribution = contents.layers[layer], contents.distributions[layer]
        is_empty = kept is None or kept.keys.shape[1] == 0
        segments.append(None if kept is None or is_empty else kept.segment(device, dtype))
        distributions.append(None if distribution is None else distribution.to(device))
        states.append(_moved(contents.states[layer], device))
    return Placed(tuple(segments), tuple(distributions), tuple(states))


def _moved(
    state: Mapping[str, Tensor] | None, device: torch.device | str | None
) -> dict[str, Tensor] | None:
    if state is None:
        return None
    return {name: tensor.to(device=device) for name, tensor in state.items()}
