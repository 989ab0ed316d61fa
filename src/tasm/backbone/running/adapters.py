"""Adapters in a model's layers (PEFT's): which are active, and what the layers compute with them.

Knows PEFT's layers by their attributes and imports nothing of it.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from tasm.backbone.wrappers import kept_tensor


def is_adapter_layer(module: Any) -> bool:
    """Whether a module is a layer with adapters around a `base_layer`."""
    return "base_layer" in module._modules and hasattr(module, "active_adapters")


def chosen_module(module: Any) -> Any:
    """Return what runs of a module kept once an adapter (`modules_to_save`), else None."""
    if "original_module" not in module._modules or "modules_to_save" not in module._modules:
        return None
    active = [name for name in module.active_adapters if name in module.modules_to_save]
    disabled = getattr(module, "disable_adapters", False)
    return module.original_module if disabled or not active else module.modules_to_save[active[0]]


def running_adapters(layer: Any) -> list[str]:
    """Return the adapters that a layer adds while it runs, in order; merged ones are weights."""
    if layer.disable_adapters and layer.merged:
        layer.unmerge()  # as its forward pass would, before anything is computed
    if layer.disable_adapters or layer.merged:
        return []
    return [name for name in layer.active_adapters if any(True for _ in own_tensors(layer, name))]


def active_adapter_names(model: nn.Module) -> str | None:
    """Return the names of the adapters that take part in a model's answers, or None.

    ```python
    active_adapter_names(model.hf)      # 'birds', or 'birds, fish', or None
    ```
    """
    names: dict[str, None] = {}
    for module in model.modules():
        if is_adapter_layer(module):
            merged: Any = getattr(module, "merged_adapters", ())
            running = [] if module.disable_adapters else [*merged, *running_adapters(module)]
            names |= dict.fromkeys(str(name) for name in running)
        elif chosen_module(module) not in (None, getattr(module, "original_module", None)):
            names |= dict.fromkeys(str(name) for name in module.active_adapters)  # type: ignore[union-attr]
    return ", ".join(names) or None


def is_plain_lora(layer: Any, name: str) -> bool:
    """Whether an adapter does nothing but add its product of matrices to the weight."""
    weight = getattr(layer.base_layer, "weight", None)
    return (
        hasattr(layer, "get_delta_weight")
        and not hasattr(layer, "parameter_name")
        and isinstance(weight, Tensor)
        and type(weight) in (Tensor, nn.Parameter)
        and weight.is_floating_point()
        and (weight.device.type != "meta" or name in getattr(layer, "lora_A", ()))
        and any(name in getattr(layer, held, ()) for held in ("lora_A", "lora_embedding_A"))
        and name not in getattr(layer, "lora_variant", {})
        and not getattr(layer, "use_dora", {}).get(name)
        and not getattr(layer, "lora_bias", {}).get(name)
    )


def weight_with(layer: Any, names: list[str]) -> Tensor:
    """Return the weight that a layer computes with: what merging the adapters would write."""
    weight = kept_tensor(layer.base_layer, "weight", layer.base_layer.weight).detach()
    own = weight
    for name in names:
        delta = _delta(layer, name).detach()
        if bool(delta.any()):
            weight = weight.clone() if weight is own else weight
            weight += delta
    return weight


def _delta(layer: Any, name: str) -> Tensor:
    if layer.base_layer.weight.device.type != "meta":
        return layer.get_delta_weight(name)  # type: ignore[no-any-return]
    # The layer's own method cannot look where accelerate keeps the matrices.
    second, first = (
        kept_tensor(part[name], "weight", part[name].weight)
        for part in (layer.lora_B, layer.lora_A)
    )
    product = second @ first
    return (product.T if layer.fan_in_fan_out else product) * layer.scaling[name]


def own_tensors(layer: Any, name: str) -> Iterator[Any]:
    """Yield the modules and values that belong to one adapter of a layer."""
    held = (*getattr(layer, "adapter_layer_names", ()), *getattr(layer, "other_param_names", ()))
    for attribute in held:
        values = getattr(layer, attribute, None)
        if isinstance(values, dict | nn.ModuleDict | nn.ParameterDict) and name in values:
            yield values[name]


def does_nothing(layer: Any, name: str) -> bool:
    """Whether an adapter's second matrix is zero, as it is before training."""
    second = getattr(layer, "lora_B", {})
    return (
        name in second
        and name not in getattr(layer, "lora_variant", {})
        and not any(
            bool(kept_tensor(second[name], held, parameter).any())
            for held, parameter in second[name].named_parameters()
        )
    )
