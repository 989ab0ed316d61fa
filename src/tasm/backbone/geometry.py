"""The sizes of a decoder that a memory depends on, read from its configuration and modules.

Knows configurations and attribute names; nothing of caches or weights.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from tasm.backbone.decoder import attention_modules, find_decoder
from tasm.backbone.hugging_face import HfConfig
from tasm.errors import ModelError

LayerKind = Literal["full", "sliding", "linear"]

_KINDS: dict[str, LayerKind] = {
    "full_attention": "full",
    "sliding_attention": "sliding",
    "linear_attention": "linear",
    "attention": "full",
}


@dataclass(frozen=True)
class Geometry:
    """What a memory must know about the decoder it was made for.

    ```python
    geometry = Geometry.of(model)
    geometry.layers, geometry.kv_heads, geometry.head_dim      # 28, 4, 128
    ```

    `layer_kinds` names each layer "full", "sliding" or "linear"; `sliding_window` is in tokens, the
    query included; `max_positions` is what the model was trained for, or None where the
    configuration does not say; `position_rows` is 3 for multi-dimensional rotary positions, else 1.
    """

    layers: int
    kv_heads: int
    query_heads: int
    head_dim: int
    layer_kinds: tuple[LayerKind, ...]
    sliding_window: int | None
    max_positions: int | None
    position_rows: int

    @classmethod
    def of(cls, model: nn.Module) -> "Geometry":
        """Read a Hugging Face model's geometry; raises ModelError where tasm cannot serve it."""
        config = text_config(model.config)
        modules = attention_modules(find_decoder(model))
        sizes = {_sizes(module) for module in modules.values()}
        if len(sizes) != 1:
            raise ModelError(
                f"{type(model).__name__} has layers of different head sizes {sorted(sizes)}; "
                "expected the same head size and number of key-value heads in every layer."
            )
        head_dim, kv_heads, query_heads = sizes.pop()
        return cls(
            layers=len(layer_kinds(model.config)),
            kv_heads=kv_heads,
            query_heads=query_heads,
            head_dim=head_dim,
            layer_kinds=layer_kinds(model.config),
            sliding_window=sliding_window(model.config),
            max_positions=getattr(config, "max_position_embeddings", None),
            position_rows=position_rows(model.config),
        )


def _sizes(module: Any) -> tuple[int, int, int]:
    config: HfConfig = getattr(module, "config", None)
    head_dim = getattr(module, "head_dim", None) or getattr(config, "head_dim", None)
    if head_dim is None:
        head_dim = config.hidden_size // config.num_attention_heads
    width = getattr(module.k_proj, "out_features", None)  # some quantised layers do not say
    if width is None:
        width = (config.num_key_value_heads or config.num_attention_heads) * head_dim
    kv_heads = width // head_dim
    query_heads = kv_heads * (getattr(module, "num_key_value_groups", None) or 1)
    return int(head_dim), int(kv_heads), int(query_heads)


def text_config(config: HfConfig) -> HfConfig:
    """The text decoder's part of a configuration."""
    return config.get_text_config(decoder=True)


def layer_kinds(config: HfConfig) -> tuple[LayerKind, ...]:
    """Each layer's kind of attention; raises ModelError for one that cannot have a memory."""
    if isinstance(config, Geometry):
        return config.layer_kinds
    text = text_config(config)
    names = getattr(text, "layer_types", None)
    if names is None:
        windowed = getattr(text, "sliding_window", None) is not None and getattr(
            text, "use_sliding_window", True
        )
        names = ["sliding_attention" if windowed else "full_attention"] * text.num_hidden_layers
    unknown = sorted(set(names) - set(_KINDS))
    if unknown:
        raise ModelError(
            f"{text.model_type} has layers of kind {', '.join(unknown)}, which cannot have a "
            f"memory. Supported: {', '.join(_KINDS)}."
        )
    return tuple(_KINDS[name] for name in names)


def sliding_window(config: HfConfig) -> int | None:
    """The width of the sliding layers in tokens, query included, or None without such layers."""
    if isinstance(config, Geometry):
        return config.sliding_window
    return int(text_config(config).sliding_window) if "sliding" in layer_kinds(config) else None


def image_token(config: HfConfig) -> int | None:
    """Return the id of the token that stands for a part of a picture, None for a model of text."""
    for name in ("image_token_id", "image_token_index"):
        found = getattr(config, name, None)
        if isinstance(found, int) and found >= 0:
            return found
    return None


def rope_parameters(config: HfConfig) -> dict[str, Any]:
    """The rotary settings of a text configuration, under their old or new name."""
    text = text_config(config)
    return getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}


def position_rows(config: HfConfig) -> int:
    """3 where positions are (time, height, width), else 1."""
    if isinstance(config, Geometry):
        return config.position_rows
    parameters = rope_parameters(config)
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    return 3 if any("mrope_section" in part for part in [parameters, *nested]) else 1
