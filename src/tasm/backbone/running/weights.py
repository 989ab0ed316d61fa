"""The weights that run, as digests, cheap enough to be taken before every answer.

Goes through the modules of a model and sees what each computes with: parameters, kept buffers,
packed and offloaded weights, adapters that are active. Names do not count, order does. A small
model is read in full each time; of a large one, each tensor is read in full once, and again when
its address, version or one of 64 values has changed.

Not seen in a large model: a change of values through `.data` or under `torch.inference_mode()`
that spares the 64 values of a tensor. Not seen in any: buffers that are not saved with the model,
and code.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tasm.backbone.dtypes import DTYPES
from tasm.backbone.hugging_face import HfModel
from tasm.backbone.running.adapters import (
    chosen_module,
    does_nothing,
    is_adapter_layer,
    is_plain_lora,
    own_tensors,
    running_adapters,
    weight_with,
)
from tasm.backbone.running.tensor_bits import exact_digest, parts_of, sampled_digest, states_of
from tasm.backbone.wrappers import kept_tensor

READ_EACH_TIME = 1 << 24
"""Models of up to so many values are read in full at every check."""

_BESIDES_LINEAR = " besides linear layers"


@dataclass(frozen=True)
class WeightDigests:
    """What weights are: `exact`, every bit in the dtype they have; `sampled`, some values of every
    tensor by the dtype they are rounded to, so that the same weights can be told in two dtypes, and
    of every tensor that is not a linear layer's, which quantising leaves as they are."""

    exact: str
    sampled: dict[str, str]
    dtype: str

    def agree(self, other: "WeightDigests") -> bool:
        """Whether these are the same weights, each in its own dtype."""
        if self.dtype == other.dtype:
            return self.exact == other.exact
        return any(
            name in self.sampled and self.sampled[name] == other.sampled.get(name)
            for name in (self.dtype, other.dtype)
        )


@dataclass(frozen=True, eq=False)
class _Piece:
    """Something a module computes with: the tensors it comes from, and how to get it; `is_linear`
    where it belongs to a linear layer, quantised or not."""

    tensors: tuple[Tensor, ...]
    notes: tuple[Any, ...]
    value: Callable[[], Any]
    is_linear: bool = False


class RunningWeights:
    """The weights of a transformers model as they are at the time of each call.

    ```python
    weights = RunningWeights(model)
    weights.digests().exact
    weights.changed()                 # whether they are others than when this object was made
    ```
    """

    def __init__(self, model: HfModel) -> None:
        self._model = model
        self._read: dict[int, tuple[Any, bytes]] = {}
        self._sampled: dict[str, dict[str, str]] = {}
        self._first: WeightDigests | None = None
        pieces = list(_pieces(model))
        self._first_states: list[Any] = []
        if _is_small(pieces):
            self._first = self.digests()
        else:
            self._first_states = _states(pieces)

    @torch.no_grad()
    def digests(self) -> WeightDigests:
        """Return the digests of the weights as they are now."""
        pieces = list(_pieces(self._model))
        dtype = str(dtype_of(self._model)).removeprefix("torch.")
        states = None if _is_small(pieces) else _states(pieces)
        digest = hashlib.sha256(b"tasm weights\0")
        for number, piece in enumerate(pieces):
            digest.update(self._digest(number, piece, None if states is None else states[number]))
        exact = digest.hexdigest()
        if exact not in self._sampled:
            self._sampled = {exact: _rounded(pieces)}
        found = WeightDigests(exact, self._sampled[exact], dtype)
        if self._first is None and states == self._first_states:
            self._first = found
        return found

    def changed(self, now: WeightDigests | None = None) -> bool:
        """Whether the weights (`now`, if just read) are others than at first; another dtype alone
        is no change."""
        if self._first is not None:
            return not self._first.agree(now or self.digests())
        return _states(list(_pieces(self._model))) != self._first_states

    def _digest(self, number: int, piece: _Piece, state: Any) -> bytes:
        known = self._read.get(number)
        if state is not None and known is not None and known[0] == state:
            return known[1]
        found = exact_digest(piece.value())
        if state is not None:
            self._read[number] = (state, found)
        return found


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return what a model computes in: the dtype of its first weights that are no integers."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.dtype.itemsize > 1:
            return parameter.dtype
    return torch.float32


def _is_small(pieces: list[_Piece]) -> bool:
    return sum(tensor.numel() for piece in pieces for tensor in piece.tensors) <= READ_EACH_TIME


def _states(pieces: list[_Piece]) -> list[Any]:
    states = iter(states_of(tensor for piece in pieces for tensor in piece.tensors))
    return [(piece.notes, *(next(states) for _ in piece.tensors)) for piece in pieces]


def _rounded(pieces: list[_Piece]) -> dict[str, str]:
    digests = {}
    for name, dtype in DTYPES.items():
        for suffix in ("", _BESIDES_LINEAR):
            digest = digests[name + suffix] = hashlib.sha256(b"tasm sampled weights\0")
            for piece in pieces:
                if not (suffix and piece.is_linear):
                    digest.update(sampled_digest(piece.value(), dtype))
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _plain(value: Any, *notes: Any, linear: bool) -> _Piece:
    tensors = tuple(part for part in parts_of(value) if isinstance(part, Tensor))
    return _Piece(tensors, notes, lambda: value, linear)


def _pieces(module: Any, linear: bool = False) -> Iterator[_Piece]:
    linear = linear or hasattr(module, "in_features") or hasattr(module, "infeatures")
    chosen = chosen_module(module)
    if chosen is not None:
        yield from _pieces(chosen, linear)
        return
    if is_adapter_layer(module):
        yield from _adapted(module, linear)
        return
    yield from _own(module, linear)
    for child in module._modules.values():
        if child is not None:
            yield from _pieces(child, linear)


def _own(module: Any, linear: bool, weight: _Piece | None = None) -> Iterator[_Piece]:
    """What a module holds itself, and saves; `weight` stands in for its weight."""
    # By name: parametrised layers put their parameters back in another order.
    for name, parameter in sorted(module._parameters.items()):
        if weight is not None and name == "weight":
            yield weight
        elif parameter is not None:
            yield _plain(kept_tensor(module, name, parameter), linear=linear)
    for name, buffer in module._buffers.items():
        if buffer is not None and name not in module._non_persistent_buffers_set:
            yield _plain(kept_tensor(module, name, buffer), linear=linear)
    kind = type(module)
    if (
        kind._save_to_state_dict is not nn.Module._save_to_state_dict
        or kind.get_extra_state is not nn.Module.get_extra_state
    ):
        notes = tuple(map(id, vars(module).values()))
        yield _Piece((), notes, lambda: _saved_besides(module), linear)
    elif not (module._parameters or module._buffers or module._modules):
        loose = {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}
        if loose:
            yield _plain(loose, linear=linear)


def _saved_besides(module: Any) -> dict[str, Any]:
    """What a module saves that is neither parameter nor buffer: packed or described weights."""
    saved: dict[str, Any] = {}
    module._save_to_state_dict(saved, "", True)
    return {
        name: value
        for name, value in saved.items()
        if name not in module._parameters and name not in module._buffers
    }


def _adapted(layer: Any, linear: bool) -> Iterator[_Piece]:
    names = running_adapters(layer)
    base = layer.base_layer
    if not names:
        yield from _pieces(base, linear)
        return
    if not is_adapter_layer(base) and all(is_plain_lora(layer, name) for name in names):
        tensors = [kept_tensor(base, "weight", base.weight).detach()]
        tensors += [
            part for name in names for v in own_tensors(layer, name) for part in _tensors(v)
        ]
        notes = tuple((name, str(layer.scaling.get(name))) for name in names)
        merged = _Piece(tuple(tensors), notes, lambda: weight_with(layer, names), linear)
        yield from _own(base, linear, merged)
        return
    yield from _pieces(base, linear)
    for name in names:
        if does_nothing(layer, name):
            continue
        for value in own_tensors(layer, name):
            if isinstance(value, nn.Module):
                yield from _pieces(value, linear)
            else:
                yield _plain(value, linear=linear)
        scaling = str(getattr(layer, "scaling", {}).get(name))
        yield _plain(scaling, scaling, linear=linear)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, nn.Module):
        for name, parameter in value.named_parameters():
            yield kept_tensor(value, name, parameter).detach()
    elif isinstance(value, Tensor):
        yield value.detach()
