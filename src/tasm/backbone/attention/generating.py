"""The `generate` of an attached model: arguments are looked at, then the class's own runs.

Beside any other cache nothing is looked at.
"""

from typing import Any

from torch import Tensor

from tasm.backbone.attention.admission import check_generate, memory_cache
from tasm.backbone.decoder import find_decoder
from tasm.errors import InputError


def generate(model: Any, *args: Any, **kwargs: Any) -> Any:
    """transformers' `generate`; beside a task memory its arguments are checked first.

    Raises InputError for arguments that would give a wrong answer; see `check_generate`.
    """
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
    mask = check_generate(cache, tokens, kwargs.get("attention_mask"), longest)
    if mask is not None:
        kwargs["attention_mask"] = mask
    switch = getattr(find_decoder(model), "tasm_switch", None)
    if switch is not None and longest is not None:
        end = cache.next_position + int(cache.get_seq_length()) + tokens.shape[1] + longest
        switch.check(cache.next_position, end - 1)
    if _first(kwargs.get("use_cache"), getattr(settings, "use_cache", None)) is not False:
        return own(model, *args, **kwargs)
    if int(cache.get_seq_length()):
        raise InputError(
            "use_cache=False was given while the cache holds live tokens. Leave it out, or take a "
            "fresh memory.cache()."
        )
    # Reading everything anew at each step gives the same answer, but not where a memory retrieves.
    try:
        return own(model, *args, **{**kwargs, "use_cache": True})
    finally:
        cache.reset()


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _new_tokens(tokens: Tensor, kwargs: dict[str, Any], settings: Any) -> int | None:
    """The most tokens that may be generated, or None where nothing says."""
    new = _first(kwargs.get("max_new_tokens"), getattr(settings, "max_new_tokens", None))
    if isinstance(new, int):
        return new
    length = _first(kwargs.get("max_length"), getattr(settings, "max_length", None))
    return max(length - tokens.shape[1], 0) if isinstance(length, int) else None
