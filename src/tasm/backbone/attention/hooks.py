"""Attaching a model: its text decoder gets tasm's attention, a position hook and a guard.

Nothing of transformers is patched: the attention is set by its registered name, the rest are
ordinary forward hooks, and a `generate` of this one model that looks at its arguments and calls the
class's own. With any other cache the model behaves as before.
"""

import inspect
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin

import tasm.backbone.attention.function  # noqa: F401  (registers the attention)
from tasm.backbone.attention.admission import check_forward, memory_cache
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.cache_layers import unread_memory
from tasm.backbone.attention.function import ATTENTION
from tasm.backbone.attention.generating import generate
from tasm.backbone.attention.picture_positions import (
    call_positions,
    refuse_missing_pixels,
    whole_token_types,
)
from tasm.backbone.attention.rotary import length_switch
from tasm.backbone.decoder import Decoder, find_decoder
from tasm.backbone.hugging_face import HfModel
from tasm.backbone.running.guard import check_weights
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
    if getattr(decoder, "tasm_hooks", None):
        return
    decoder.tasm_switch = length_switch(decoder)
    hooks = [
        decoder.register_forward_pre_hook(_before, with_kwargs=True),
        decoder.register_forward_hook(_after, with_kwargs=True),
    ]
    for module in _outer_modules(model, decoder):
        hooks.append(module.register_forward_pre_hook(_outer_before, with_kwargs=True))
        hooks.append(module.register_forward_hook(_outer_after, with_kwargs=True))
        if isinstance(module, GenerationMixin):
            module.generate = MethodType(generate, module)  # type: ignore[method-assign]
    decoder.tasm_hooks = tuple(hooks)


def detach(model: nn.Module, attention: str = "sdpa") -> None:
    """Undo `attach`: remove the hooks and set the text decoder's attention to `attention`."""
    decoder = find_decoder(model)
    for handle in getattr(decoder, "tasm_hooks", None) or ():
        handle.remove()
    decoder.tasm_hooks = None
    for module in _outer_modules(model, decoder):
        module.__dict__.pop("generate", None)
    set_attention(model, attention)


def set_attention(model: HfModel, name: str) -> None:
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


def _outer_modules(model: nn.Module, decoder: object) -> list[nn.Module]:
    """The modules around the decoder that a caller may run, the model itself first."""
    return [
        module
        for module in model.modules()
        if module is not decoder
        and any(inner is decoder for inner in module.modules())
        and not isinstance(module, nn.ModuleList)
    ]


def _named(
    module: HfModel, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments by name, where a memory's cache is among those given by position."""
    if any(isinstance(value, MemoryCache) for value in args):
        bound = inspect.signature(module.forward).bind_partial(*args).arguments
        return (), {**bound, **kwargs}
    return args, kwargs


def _tokens(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call's embeddings, else its ids, else None."""
    for name in ("inputs_embeds", "input_ids"):
        if kwargs.get(name) is not None:
            return kwargs[name]
    return args[0] if args and isinstance(args[0], Tensor) else None


def _outer_before(
    module: HfModel, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Before anything is derived from the mask: make it that of the live tokens."""
    args, kwargs = _named(module, args, kwargs)
    cache = memory_cache(kwargs.get("past_key_values"))
    if cache is None or (tokens := _tokens(args, kwargs)) is None:
        return args, kwargs
    mask = cache.live_mask(kwargs.get("attention_mask"), *tokens.shape[:2])
    if mask is not None:
        kwargs["attention_mask"] = mask
    check_forward(cache, tokens, mask, kwargs.get("use_cache"), kwargs.get("logits_to_keep"))
    if not torch.compiler.is_compiling():
        refuse_missing_pixels(module, tokens, kwargs)
        if kwargs.get("token_type_ids") is not None and tokens.shape[1] > 1:
            kwargs["token_type_ids"] = whole_token_types(
                kwargs["token_type_ids"],
                int(cache.get_seq_length()),
                tokens.shape[1],
                cache.live_tokens,
            )
        if cache.positions.shape[0] > 1 and not cache.live_rows.are_placed(kwargs):
            places = call_positions(module, tokens, mask, kwargs)
            if places is not None:
                cache.live_rows.places = kwargs["position_ids"] = places
    elif kwargs.get("position_ids") is None:
        # Some families branch on a buffer's length to find positions, which the decoder's hook
        # replaces anyway.
        places = cache.placeholder_positions(tokens)
        kwargs |= {} if places is None else {"position_ids": places}
    return args, kwargs


def _outer_after(
    module: HfModel, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> None:
    """`use_cache=False` reads the memory and leaves nothing live."""
    cache = kwargs.get("past_key_values")
    if isinstance(cache, MemoryCache) and kwargs.get("use_cache") is False:
        cache.reset()


def _before(
    decoder: Decoder, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args, kwargs = _named(decoder, args, kwargs)
    cache = kwargs.get("past_key_values")
    if not isinstance(cache, MemoryCache):
        return args, kwargs
    if decoder.config._attn_implementation != ATTENTION:
        raise unread_memory()
    check_weights(decoder, cache)
    tokens = _tokens(args, kwargs)
    mask = cache.live_mask(kwargs.get("attention_mask"), *tokens.shape[:2])
    if mask is not None:
        kwargs["attention_mask"] = mask
    kwargs["position_ids"] = cache.begin_call(
        tokens, kwargs.get("position_ids"), mask, decoder.dtype, decoder.tasm_switch
    )
    return args, kwargs


def _after(decoder: Decoder, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    cache = kwargs.get("past_key_values")
    if isinstance(cache, MemoryCache):
        cache.end_call()
