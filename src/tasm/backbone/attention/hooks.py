"""Attaching a model: its text decoder gets tasm's attention, a position hook and a guard.

Nothing of transformers is patched: the attention is set by its registered name, the rest are
ordinary forward hooks. With any other cache the model behaves as before.
"""

import inspect
from typing import Any

from torch import nn

import tasm.backbone.attention.function  # noqa: F401  (registers the attention)
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.function import ATTENTION
from tasm.backbone.attention.layers import unread_memory
from tasm.backbone.decoder import find_decoder
from tasm.errors import ModelError


def attach(model: nn.Module) -> None:
    """Make a Hugging Face model able to read a `MemoryCache`; attaching twice changes nothing.

    ```python
    attach(model)
    model.generate(**query, past_key_values=memory.cache())
    ```

    Only the text decoder changes; a vision tower keeps its attention. Raises ModelError for a model
    without a decoder, or one that ignores the attention it is told to use.
    """
    decoder = find_decoder(model)
    set_attention(model, ATTENTION)
    if getattr(decoder, "tasm_hooks", None) is None:
        decoder.tasm_hooks = (
            decoder.register_forward_pre_hook(_before, with_kwargs=True),
            decoder.register_forward_hook(_after, with_kwargs=True),
        )


def detach(model: nn.Module, attention: str = "sdpa") -> None:
    """Undo `attach`: remove the hooks and set the text decoder's attention to `attention`."""
    decoder = find_decoder(model)
    for handle in getattr(decoder, "tasm_hooks", None) or ():
        handle.remove()
    decoder.tasm_hooks = None
    set_attention(model, attention)


def set_attention(model: Any, name: str) -> None:
    """Set the text decoder's attention implementation by name, leaving a vision tower as it is."""
    own = find_decoder(model).config
    if own is not model.config and "text_config" in getattr(model.config, "sub_configs", {}):
        model.set_attn_implementation({"text_config": name})
    else:
        model.set_attn_implementation(name)
    if own._attn_implementation != name:
        raise ModelError(
            f"{type(model).__name__} does not take attention implementation {name!r}: its decoder "
            f"keeps {own._attn_implementation!r}. Expected a model that uses transformers' "
            "AttentionInterface."
        )


def _before(
    decoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if any(isinstance(value, MemoryCache) for value in args):
        kwargs = {**inspect.signature(decoder.forward).bind_partial(*args).arguments, **kwargs}
        args = ()
    cache = kwargs.get("past_key_values")
    if not isinstance(cache, MemoryCache):
        return args, kwargs
    if decoder.config._attn_implementation != ATTENTION:
        raise unread_memory()
    tokens = kwargs.get("inputs_embeds")
    if tokens is None:
        tokens = kwargs["input_ids"] if kwargs.get("input_ids") is not None else args[0]
    kwargs["position_ids"] = cache.begin_call(
        tokens, kwargs.get("position_ids"), kwargs.get("attention_mask")
    )
    return args, kwargs


def _after(decoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    cache = kwargs.get("past_key_values")
    if isinstance(cache, MemoryCache):
        cache.end_call()
