"""A device that is not there: CPU values that claim to lie on it, and a mode that watches them.

```python
with pretending() as watch:
    model = moved(model, "pretended")             # its weights now say device="pretended:0"
    model(input_ids=ids.to("pretended"))
    watch.waits                                    # what made the host wait, and where in tasm
```

Every operation computes on a CPU what it would compute there. What a real device would refuse is
refused: tensors of two devices in one operation (a CPU tensor without dimensions may go anywhere),
NumPy, kernels of another device. What would make the host wait is noted: reading a number, results
whose size depends on values, copies to the host and, unless `non_blocking`, from it.

The device is torch's place for backends of others (PrivateUse1), so that the host knows its name,
several numbers of it and nothing else. Once pretended, the name stays registered in this process;
it never says that it is available.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

import tasm

NAME = "pretended"
CPU = torch.device("cpu")
_OURS = str(Path(tasm.__file__).parent)
_aten = torch.ops.aten


class MixedDevices(RuntimeError):
    """Tensors of different devices met in one operation."""


class Wait(NamedTuple):
    """The host waited for the device: by which operation, and the innermost line of tasm."""

    operation: str
    place: str

    @property
    def is_ours(self) -> bool:
        """Whether it came about below a call of tasm's, not in transformers alone."""
        return bool(self.place)


@dataclass
class Watch:
    """What was seen while pretending."""

    waits: list[Wait] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)

    def clear(self) -> None:
        """Forget what was seen so far."""
        self.waits.clear()
        self.operations.clear()

    def waits_in(self, *names: str) -> list[Wait]:
        """The waits whose line of tasm lies in a file of one of these names."""
        return [wait for wait in self.waits if wait.place.split(":")[0] in names]


class Pretended(Tensor):
    """A tensor that says it lies on the pretended device; `held` are its values, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> "Pretended":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device,
            requires_grad=False,
        )
        made.held = held
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Pretended({self.held!r}, device={str(self.device)!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(_watch or Watch(), func, args, kwargs or {})  # in threads, and once it is over


_watch: Watch | None = None


@contextmanager
def pretending() -> Iterator[Watch]:
    """Pretend that there is the device, and watch; skips the test where torch has no place for it.

    The mode holds in the thread that entered it.
    """
    global _watch
    _register()
    _watch = Watch()
    try:
        with _Functions(), _Operations(_watch):
            yield _watch
    finally:
        _watch = None


def moved(model: nn.Module, device: str) -> nn.Module:
    """Move a model there in place, tied weights staying one; returns it."""
    seen: dict[int, Tensor] = {}

    def there(tensor: Tensor) -> Tensor:
        if id(tensor) not in seen:
            at = torch.device(device)
            made = Pretended(tensor.detach(), at if at.index is not None else torch.device(NAME, 0))
            seen[id(tensor)] = (
                nn.Parameter(made, False) if isinstance(tensor, nn.Parameter) else made
            )
        return seen[id(tensor)]

    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    held[name] = there(tensor)
    return model


def values(tensor: Tensor) -> Tensor:
    """The values of any tensor on the CPU, unseen by the watch."""
    return tensor.held if isinstance(tensor, Pretended) else tensor


# ---------------------------------------------------------------------- what happens underneath


def _register() -> None:
    accelerators = getattr(torch._C, "_acc", None)
    if not hasattr(accelerators, "register_python_privateuseone_device_guard"):
        pytest.skip("this torch has no place for a device written in Python")
    if hasattr(torch, NAME):
        return

    class Guard(accelerators.DeviceGuard):  # type: ignore[name-defined, misc]
        def type_(self) -> Any:
            return torch._C._autograd.DeviceType.PrivateUse1  # type: ignore[attr-defined]

    class Module:
        is_initialized = staticmethod(lambda: True)
        is_available = staticmethod(lambda: False)
        current_device = staticmethod(lambda: 0)
        device_count = staticmethod(lambda: 0)
        _is_in_bad_fork = staticmethod(lambda: False)
        manual_seed_all = staticmethod(lambda seed: None)

    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, Module)
    accelerators.register_python_privateuseone_device_guard(Guard())  # type: ignore[union-attr]


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


class _Functions(TorchFunctionMode):
    """Functions that make or read tensors underneath what a dispatch mode sees."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor):
            device = kwargs.pop("device", None)
            if not isinstance(args[0], Tensor):
                args = (tree_map_only(Pretended, lambda one: one.item(), args[0]), *args[1:])
            made = func(*args, **kwargs)
            return made if device is None else made.to(device)
        if func is Tensor.new_tensor and isinstance(args[0], Pretended):
            device = kwargs.pop("device", args[0].device)
            kwargs.setdefault("dtype", args[0].dtype)
            return torch.tensor(*args[1:], **kwargs).to(device)
        if func is Tensor.tolist and isinstance(args[0], Pretended):
            return args[0].to("cpu").tolist()
        if func is Tensor.numpy and isinstance(args[0], Pretended):
            raise TypeError(f"can't convert {args[0].device} tensor to numpy")
        if func in _AS_ONE:
            return _run(_watch or Watch(), _AS_ONE[func], args, kwargs)
        return func(*args, **kwargs)


_AS_ONE = {
    nn.functional.scaled_dot_product_attention: _aten.scaled_dot_product_attention.default,
    torch.quantile: _aten.quantile.scalar,
    _aten._scaled_dot_product_flash_attention: _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention: (
        _aten._scaled_dot_product_efficient_attention.default
    ),
}
"""Functions that take themselves apart by device, change shapes in place, or give more than is made
here, before a mode sees anything."""


class _Operations(TorchDispatchMode):
    """Every operation, those that make tensors included."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _WHOLE or not _decomposes(func):
            return _run(self.watch, func, args, kwargs)
        with self:
            return func.decompose(*args, **kwargs)


_WHOLE = {
    _aten.linear.default,
    _aten.matmul.default,
    _aten.einsum.default,
    _aten.conv2d.default,
    _aten.conv3d.default,
    _aten.scaled_dot_product_attention.default,
}
"""Compositions that compute one thing in one way, so that the values are a plain CPU run's."""


def _decomposes(func: Any) -> bool:
    return bool(
        torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    )


_READS = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "_unique2",
    "unique_dim", "unique_consecutive", "repeat_interleave",
}  # fmt: skip
"""Operations that give the host a number, or whose result has a size that depends on values."""


def _run(watch: Watch, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func.name().split("::")[1].split(".")[0]
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    there = [one for one in tensors if isinstance(one, Pretended)]
    target = kwargs.get("device")
    if not there and not _is_there(target):
        return func(*args, **kwargs)
    watch.operations.append(name)
    device = _checked_device(name, args, tensors, there)
    _note_wait(watch, name, args, kwargs, there)
    held_by = {id(one.held): one for one in there}
    plain, options = tree_map_only(Pretended, lambda one: one.held, (args, kwargs))
    if target is not None:
        options = {**options, "device": CPU}
        device = torch.device(target)
        if device.type == NAME and device.index is None:
            device = torch.device(NAME, 0)
    options.pop("pin_memory", None)
    result = _KERNELS.get(name, func)(*plain, **options)
    for one in there:
        assert one.shape == one.held.shape, f"{name} changed a tensor's shape in place"
    if device.type != NAME:
        return result  # a copy on the host

    def wrapped(tensor: Tensor) -> Tensor:
        same = held_by.get(id(tensor))
        if same is not None:
            return same
        # A view of an ordinary tensor is one too, in inference mode as well.
        ordinary = func.is_view and not there[0].is_inference()
        with torch.inference_mode(torch.is_inference_mode_enabled() and not ordinary):
            return Pretended(tensor, device)

    if name == "copy_" and not isinstance(args[0], Pretended):
        return args[0]
    return tree_map_only(Tensor, lambda tensor: wrapped(tensor), result)


def _checked_device(
    name: str, args: Any, tensors: Sequence[Tensor], there: Sequence[Tensor]
) -> torch.device:
    """The one device of all arguments; raises MixedDevices where there are two."""
    if not there:
        return CPU
    device = there[0].device
    if name in ("_to_copy", "copy_"):
        return device
    compared = tensors
    if (
        name.startswith(("index", "_index_put"))
        and isinstance(args[0], Pretended)
        and (name in ("index", "index_put", "index_put_", "_index_put_impl_"))
    ):
        compared = [args[0], *args[2:3]] if name != "index" else [args[0]]  # indices are brought
    for one in compared:
        if isinstance(one, Tensor) and one.ndim > 0 and one.device != device:
            raise MixedDevices(
                f"{name} was given tensors on {device} and {one.device}: "
                f"{[(tuple(each.shape), str(each.device)) for each in tensors]}"
            )
    return device


def _note_wait(
    watch: Watch, name: str, args: Any, kwargs: dict[str, Any], there: Sequence[Tensor]
) -> None:
    waited = name if there and name in _READS else None
    if name == "repeat_interleave" and kwargs.get("output_size") is not None:
        waited = None
    if name == "_to_copy":
        source, target = args[0], kwargs.get("device")
        if isinstance(source, Pretended) and target is not None and not _is_there(target):
            waited = "to host"
        elif not isinstance(source, Pretended) and not kwargs.get("non_blocking"):
            waited = "from host"
        if source.numel() == 0:
            waited = None
    if name == "copy_" and isinstance(args[0], Pretended) != isinstance(args[1], Pretended):
        waited = "to host" if isinstance(args[1], Pretended) else "from host"
    if name in ("index", "index_put", "index_put_", "_index_put_impl_") and there:
        chosen = [one for one in args[1] if isinstance(one, Tensor)]
        if any(not isinstance(one, Pretended) and one.ndim > 0 for one in chosen):
            waited = "from host"
        fills = name != "index" and args[2].numel() == 1  # a masked fill
        if any(one.dtype == torch.bool for one in chosen) and not fills:
            waited = f"{name} by a mask"
    if waited is not None:
        watch.waits.append(Wait(waited, _place()))


def _place() -> str:
    """The innermost line of tasm that is running, as "file.py:12 function"."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(_OURS):
            name = Path(frame.f_code.co_filename).name
            return f"{name}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return ""


# ---------------------------------------------------------------------- CUDA's attention kernels


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float,
    causal: bool,
    debug: bool,
    *,
    scale: float,
) -> tuple[Tensor, ...]:
    assert query.dtype in (torch.float16, torch.bfloat16), "flash takes 16 bits"
    assert key.shape[1] == value.shape[1] and query.shape[1] % key.shape[1] == 0
    assert query.shape[0] == key.shape[0], "flash expands no batch"
    group = query.shape[1] // key.shape[1]
    keys, values = (stored.repeat_interleave(group, 1) for stored in (key, value))
    return _attention(query, keys, values, None, causal, scale)


def _efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    wants_sums: bool,
    dropout: float,
    causal: bool,
    *,
    scale: float,
) -> tuple[Tensor, ...]:
    assert wants_sums and query.shape[1] == key.shape[1] == value.shape[1]
    assert query.shape[0] == key.shape[0]
    assert all(one.stride(-1) == 1 for one in (query, key, value))
    if bias is not None:
        assert bias.dtype == query.dtype and bias.shape == (*query.shape[:3], key.shape[2])
        assert bias.shape[-2] == 1 or all(stride % 8 == 0 for stride in bias.stride()[:3])
    output, sums = _attention(query, key, value, bias, causal, scale)
    rows = -(-sums.shape[2] // 32) * 32
    return output, nn.functional.pad(sums, (0, rows - sums.shape[2]), value=torch.nan)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    logits = query.float() @ key.float().transpose(2, 3) * scale
    if bias is not None:
        logits = logits + bias.float()
    if causal:
        rows, tokens = logits.shape[2:]
        hidden = torch.ones(rows, tokens, dtype=torch.bool).triu(1)
        logits = logits.masked_fill(hidden, -torch.inf)
    return (logits.softmax(-1) @ value.float()).to(query.dtype), logits.logsumexp(-1)


def _histc(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return torch.histc(tensor.float(), *args, **kwargs).to(tensor.dtype)  # a CPU has no integer one


_KERNELS: dict[str, Callable[..., Any]] = {
    "histc": _histc,
    "_scaled_dot_product_flash_attention": _flash,
    "_scaled_dot_product_efficient_attention": _efficient,
}
