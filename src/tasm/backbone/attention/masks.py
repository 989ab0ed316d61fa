"""Attention masks as callers give them, made into masks of the live tokens alone.

transformers counts a mask's columns from the left, beginning with the first live token, because the
cache shows it live tokens only. Callers of prefix caches give the mask of the whole prompt. Knows
shapes and columns; nothing of caches or memories.
"""

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from tasm.errors import InputError

Mask = Tensor | dict[str, Any] | None
"""As callers give it: of two or four dimensions, or one a kind of layer."""

_HIDDEN = -1000.0
"""An additive mask hides what it lowers by more than this many nats."""


def live_mask(
    mask: Mask,
    *,
    batch: int,
    tokens: int,
    live: int | Tensor,
    fronts: tuple[int, ...] | None = None,
    buffer: int | None = None,
) -> Mask:
    """Return `mask` as the mask of `live` tokens read before and `tokens` of this call.

    ```python
    live_mask(whole_prompt_mask, batch=2, tokens=9, live=0)     # its last nine columns
    ```

    Args:
        mask: None, (batch, columns) with 0 for padding, (batch, 1, tokens, columns), or a
            dictionary of those. Columns in front of the live tokens stand for the memory and must
            all be seen, since a memory has no padding.
        batch, tokens: shape of the call.
        live: tokens read before; a tensor where a number would break a compiled graph.
        fronts: how many columns may stand in front; None for any number.
        buffer: slots of a live part of fixed size, or None.

    Raises:
        InputError: the mask is too narrow, has another shape, or hides a part of the memory.
    """
    if mask is None:
        return None
    if isinstance(mask, dict):
        return {
            name: live_mask(
                one, batch=batch, tokens=tokens, live=live, fronts=fronts, buffer=buffer
            )
            for name, one in mask.items()
        }
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 4):
        seen = f"{mask.ndim} dimensions" if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(
            f"attention_mask is {seen}; expected a tensor (batch, tokens) with 1 for tokens and 0 "
            "for padding, or a prepared one (batch, 1, tokens, tokens)."
        )
    if mask.shape[0] not in (1, batch):
        raise InputError(f"attention_mask has {mask.shape[0]} rows but the call has {batch}.")
    if mask.ndim == 2:
        if isinstance(live, Tensor) and not is_compiling():
            live = int(live)
        return _padding(mask.expand(batch, -1), tokens, live, fronts, buffer)
    return _prepared(mask, tokens, live, fronts, buffer)


def real_tokens(mask: Mask, batch: int, tokens: int, live: int | Tensor) -> Tensor | None:
    """Return which of a call's tokens are no padding, bool (batch, tokens); None where no mask
    says.

    `mask` is what `live_mask` returned. In a prepared mask a real token sees itself.
    """
    if isinstance(mask, dict):
        given = [one for one in mask.values() if one is not None]
        prepared = [one for one in given if one.ndim == 4]
        mask = next(iter(prepared or given), None)
    if mask is None:
        return None
    assert isinstance(mask, Tensor)
    if mask.ndim == 2:
        if isinstance(live, Tensor):
            place = torch.arange(tokens, device=mask.device) + live
            return mask.index_select(1, place).bool().expand(batch, -1)
        real = mask[:, live : live + tokens].bool()
    else:
        seen = mask[:, 0]
        place = (torch.arange(tokens, device=mask.device) + live)[None, :, None]
        itself = seen.gather(2, place.expand(seen.shape[0], -1, -1))[..., 0]
        real = itself > _HIDDEN if itself.is_floating_point() else itself.bool()
    return real.expand(batch, -1)


def _padding(
    mask: Tensor,
    tokens: int,
    live: int | Tensor,
    fronts: tuple[int, ...] | None,
    buffer: int | None,
) -> Tensor:
    if mask.is_floating_point() and not is_compiling() and bool((mask < 0).any()):
        raise InputError(
            "attention_mask has negative values, as masks have that are added to logits; expected "
            "1 for tokens and 0 for padding."
        )
    mask = mask if mask.dtype == torch.long else mask.ne(0).long()
    width = mask.shape[1]
    if isinstance(live, Tensor):  # compiled over a buffer: moved without looking at the number
        slots = torch.arange(int(buffer or width), device=mask.device)
        place = slots + (width - tokens) - live.to(mask.device)
        inside = (place >= 0) & (place < width)
        return mask[:, place.clamp(0, width - 1)] * inside
    expected = live + tokens
    if width < expected:
        raise InputError(_too_narrow(width, tokens, live))
    front = width - expected
    if front == 0:
        return mask
    if is_compiling() or bool(mask[:, :front].all()):
        _check_front(front, fronts, width, tokens, live)
        return mask[:, front:]
    if width == buffer and not bool(mask[:, expected:].any()):
        return mask[:, :expected]  # a column a slot of the buffer, the later ones still empty
    raise InputError(
        f"attention_mask has {front} columns in front of the {expected} live tokens, and some are "
        "0. They stand for the memory, which has no padding: give the mask of the live tokens "
        "alone, or ones for the memory."
    )


def _prepared(
    mask: Tensor,
    tokens: int,
    live: int | Tensor,
    fronts: tuple[int, ...] | None,
    buffer: int | None,
) -> Tensor:
    width = mask.shape[3]
    if mask.shape[1] != 1 or mask.shape[2] != tokens:
        raise InputError(
            f"attention_mask has shape {tuple(mask.shape)}; expected (batch, 1, {tokens}, columns) "
            f"for a call of {tokens} tokens: one mask for all heads."
        )
    if mask.is_floating_point():  # a row of padding sees nothing: minus infinity would give NaN
        mask = mask.clamp_min(torch.finfo(mask.dtype).min)
    elif mask.dtype != torch.bool:
        mask = mask.ne(0)
    if width == buffer or isinstance(live, Tensor):
        return mask
    expected = live + tokens
    if width < expected:
        raise InputError(_too_narrow(width, tokens, live))
    front = width - expected
    if front:
        before = mask[..., :front]
        visible = before == 0 if mask.is_floating_point() else before
        if not is_compiling() and not bool(visible.all()):
            raise InputError(
                f"attention_mask has {front} columns in front of the {expected} live tokens, and "
                "hides some of them. They stand for the memory, which every query reads whole: "
                "give the mask of the live tokens alone."
            )
        _check_front(front, fronts, width, tokens, live)
        mask = mask[..., front:]
    if buffer is not None:
        lowest = torch.finfo(mask.dtype).min if mask.is_floating_point() else 0
        mask = torch.nn.functional.pad(mask, (0, buffer - expected), value=lowest)
    return mask


def _check_front(
    front: int, fronts: tuple[int, ...] | None, width: int, tokens: int, live: int
) -> None:
    if fronts is not None and front not in fronts:
        raise InputError(
            f"attention_mask covers {width} tokens, but the cache holds {live} live tokens of an "
            f"earlier call and this call brings {tokens}. {ANOTHER_QUESTION}"
        )


ANOTHER_QUESTION = (
    "To go on with that conversation give all its tokens so far, or only new ones with the mask of "
    "all; for another question take a fresh memory.cache() or cache.fork(), or call cache.reset()."
)


def _too_narrow(width: int, tokens: int, live: int) -> str:
    if live == 0:
        return (
            f"attention_mask covers {width} tokens but the call has {tokens}. Give the mask of the "
            "live tokens; the memory needs none."
        )
    return (
        f"attention_mask covers {width} tokens, but the cache holds {live} live tokens of an "
        f"earlier call and this call brings {tokens}. {ANOTHER_QUESTION}"
    )
