"""The `generate` of an attached model: arguments are looked at, then the class's own runs.

Beside any other cache nothing is looked at.
"""

from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.admission import check_generate, memory_cache
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.picture_positions import picture_arguments
from tasm.backbone.decoder import find_decoder
from tasm.backbone.geometry import image_token
from tasm.backbone.hugging_face import HfGenerationConfig, HfModel
from tasm.errors import InputError, TasmError


def generate(model: HfModel, *args: Any, **kwargs: Any) -> Any:
    """transformers' `generate`; beside a task memory its arguments are checked first, and what runs
    in the vision tower is told the prompt.

    Raises InputError for arguments that would give a wrong answer; see `check_generate`.
    """
    vision = getattr(getattr(find_decoder(model), "tasm_guard", None), "vision", None)
    if vision is None:
        return _generate(model, *args, **kwargs)
    with vision.prompt(_first(kwargs.get("input_ids"), *args[:1], kwargs.get("inputs"))):
        return _generate(model, *args, **kwargs)


def _generate(model: HfModel, *args: Any, **kwargs: Any) -> Any:
    own = type(model).generate
    cache = memory_cache(kwargs.get("past_key_values"))
    if cache is None:
        return own(model, *args, **kwargs)
    tokens = _first(kwargs.get("inputs_embeds"), kwargs.get("input_ids"), *args[:1],
                    kwargs.get("inputs"))  # fmt: skip
    if tokens is None:
        raise InputError("generate() was given a memory and no tokens; give input_ids.")
    settings = _first(*args[1:2], kwargs.get("generation_config"), model.generation_config)
    longest = _new_tokens(tokens, kwargs, settings)
    mask, count = check_generate(cache, tokens, kwargs.get("attention_mask"), longest)
    if mask is not None:
        kwargs["attention_mask"] = mask
    switch = getattr(find_decoder(model), "tasm_switch", None)
    if switch is not None and longest is not None:
        end = cache.next_position + int(cache.get_seq_length()) + tokens.shape[1] + longest
        switch.check(cache.next_position, end - 1)
    _refuse_miscounted_chunks(model, cache, kwargs, settings)
    types = kwargs.get("token_type_ids")
    if isinstance(types, Tensor) and not bool(types.any()):  # text alone: some versions misread it
        del kwargs["token_type_ids"]
    live = int(cache.get_seq_length())
    if live and tokens.ndim == 2:
        kwargs = _go_on(model, cache, tokens, count, kwargs)
    counts_itself = live == 0 and not hasattr(model, "_get_initial_cache_position")
    if cache.positions.shape[0] > 1 and not counts_itself and "position_ids" not in kwargs:
        kwargs["position_ids"] = _text_positions(tokens, live + count, mask)
    if _first(kwargs.get("use_cache"), getattr(settings, "use_cache", None)) is not False:
        return own(model, *args, **kwargs)
    if live:
        raise InputError(
            "use_cache=False was given while the cache holds live tokens. Leave it out, or take a "
            "fresh memory.cache()."
        )
    # Reading everything anew at each step gives the same answer, but not where a memory retrieves.
    try:
        return own(model, *args, **{**kwargs, "use_cache": True})
    finally:
        cache.reset()


def _refuse_miscounted_chunks(
    model: HfModel, cache: MemoryCache, kwargs: dict[str, Any], settings: HfGenerationConfig
) -> None:
    """Versions 5.0 of transformers leave a slot of a buffer empty after a prefill in chunks."""
    size = _first(kwargs.get("prefill_chunk_size"), getattr(settings, "prefill_chunk_size", None))
    miscounts = hasattr(model, "_get_initial_cache_position") and hasattr(model, "_prefill")
    if size is not None and cache.live_tokens is not None and miscounts:
        raise InputError(
            "prefill_chunk_size is not right beside live_tokens in this version of transformers, "
            "which counts a step twice. Leave one of the two out, or install a newer transformers."
        )


def _go_on(
    model: HfModel, cache: MemoryCache, tokens: Tensor, count: int, kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Arguments for a later turn of `count` new tokens; what it brings of pictures is read here.

    transformers drops such pictures, or finds no positions for them, depending on its version.
    """
    new, live = tokens[:, -count:], int(cache.get_seq_length())
    is_whole = tokens.shape[1] > count
    image, pictures = image_token(model.config), picture_arguments(kwargs)
    if image is not None and bool((new == image).any()):
        if not is_whole:
            raise InputError(
                "A later turn brings a picture: give the ids of the whole conversation so far "
                "(and its attention_mask), with the pixels of the new pictures alone."
            )
        if bool((new[:, -1] == image).any()):
            raise InputError("The prompt ends in a picture; expected text after it.")
        _read(model, cache, new[:, :-1], live, pictures, kwargs)
        live += count - 1
    kwargs = {name: value for name, value in kwargs.items() if name not in pictures}
    if not is_whole and hasattr(model, "_get_initial_cache_position"):
        # Some versions count the new tokens from the conversation's beginning unless they are told.
        kwargs["cache_position"] = torch.arange(live, live + count, device=tokens.device)
    return kwargs


def _read(
    model: HfModel,
    cache: MemoryCache,
    ids: Tensor,
    live: int,
    pictures: dict[str, Any],
    kwargs: dict[str, Any],
) -> None:
    """Read a later turn's tokens but the last into the cache."""
    stop = live + ids.shape[1]
    for name in ("token_type_ids", "mm_token_type_ids"):
        if kwargs.get(name) is not None:
            pictures = {**pictures, name: kwargs[name][:, live:stop]}
    mask = kwargs.get("attention_mask")
    try:
        with torch.no_grad():
            model(
                input_ids=ids,
                attention_mask=None if mask is None else mask[:, :stop],
                past_key_values=cache,
                logits_to_keep=1,
                **pictures,
            )
    except TasmError:
        raise
    except (ValueError, RuntimeError, IndexError) as error:
        raise InputError(
            f"The pictures of a later turn do not fit its tokens ({error}). Give exactly the "
            "pictures of the new tokens; those of earlier turns are in the cache already."
        ) from error


def _text_positions(tokens: Tensor, width: int, mask: Tensor | None) -> Tensor:
    """Positions as of text, (batch, width).

    They stand in for those that the model would compute and keep on itself; the hooks replace them.
    """
    if mask is not None:
        return (mask.to(tokens.device).cumsum(-1) - 1).clamp_min(0)
    return torch.arange(width, device=tokens.device).expand(tokens.shape[0], -1)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _new_tokens(tokens: Tensor, kwargs: dict[str, Any], settings: HfGenerationConfig) -> int | None:
    """The most tokens that may be generated, or None where nothing says."""
    new = _first(kwargs.get("max_new_tokens"), getattr(settings, "max_new_tokens", None))
    if isinstance(new, int):
        return new
    length = _first(kwargs.get("max_length"), getattr(settings, "max_length", None))
    return max(length - tokens.shape[1], 0) if isinstance(length, int) else None
