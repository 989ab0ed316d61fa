"""Finding the text decoder and its attention modules inside any supported model.

Knows module paths and attribute names; nothing of caches or memories.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from tasm.backbone.hugging_face import HfConfig
from tasm.errors import ModelError

_PATHS = (
    "language_model",
    "text_model",
    "model.language_model",
    "model.text_model",
    "language_model.model",
    "model",
)


class Decoder(Protocol):
    """The text decoder of a transformers model, as far as tasm looks at it."""

    config: HfConfig
    dtype: torch.dtype
    layers: nn.ModuleList
    norm: nn.Module
    register_forward_pre_hook: Callable[..., RemovableHandle]
    register_forward_hook: Callable[..., RemovableHandle]
    parameters: Callable[[], Iterator[nn.Parameter]]
    tasm_hooks: tuple[RemovableHandle, ...] | None
    """Set by `attach`; a `LengthSwitch` or None and a `Guard` too, which rooms above know."""
    tasm_switch: Any
    tasm_guard: Any


def find_decoder(model: nn.Module) -> Decoder:
    """Return the text decoder of a Hugging Face model: the module that owns the decoder `layers`.

    ```python
    decoder = find_decoder(model)        # model.model.language_model, for most VLMs
    ```

    Raises ModelError when there is none.
    """
    candidates: list[Any] = []
    if callable(get := getattr(model, "get_decoder", None)):
        candidates.append(get())
    for path in _PATHS:
        found: Any = model
        for name in path.split("."):
            found = getattr(found, name, None)
        candidates.append(found)
    for candidate in candidates:
        if isinstance(candidate, nn.Module) and isinstance(
            getattr(candidate, "layers", None), nn.ModuleList
        ):
            return cast(Decoder, candidate)
    raise ModelError(
        f"{type(model).__name__} has no text decoder that tasm can find: looked for get_decoder() "
        f"and {', '.join(_PATHS)} with a `layers` list. Expected a decoder-only model with "
        "key-value attention."
    )


def attention_modules(decoder: Decoder) -> dict[int, nn.Module]:
    """Return the key-value attention module of each decoder layer that has one, by layer number."""
    found: dict[int, nn.Module] = {}
    for number, layer in enumerate(decoder.layers):
        for module in layer.modules():
            if isinstance(getattr(module, "layer_idx", None), int) and hasattr(module, "k_proj"):
                found[number] = module
                break
    if not found:
        raise ModelError(
            f"{type(decoder).__name__} has no attention module with `layer_idx` and `k_proj`: tasm "
            "needs ordinary key and value projections, not multi-head latent attention."
        )
    return found
