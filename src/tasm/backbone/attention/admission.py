"""What a call beside a memory must be, checked before its first token is read.

Each refusal is one sentence that names what was given and what to give instead. Knows the cache and
a call's arguments; nothing of models.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from tasm.backbone.attention.cache import MemoryCache, TranscriptDigest
from tasm.backbone.attention.masks import ANOTHER_QUESTION, Mask
from tasm.errors import InputError


def memory_cache(given: Any) -> MemoryCache | None:
    """Return what was given as `past_key_values` if it is a memory's cache, else None.

    Raises InputError for a memory itself.
    """
    if isinstance(given, MemoryCache):
        return given
    if given is not None and callable(getattr(given, "cache", None)):
        raise InputError(
            f"past_key_values is a {type(given).__name__}; give its cache: "
            "past_key_values=memory.cache()."
        )
    return None


def check_forward(
    cache: MemoryCache, tokens: Tensor, mask: Mask, use_cache: Any, logits_to_keep: Any
) -> None:
    """Check one forward call; `mask` is what `cache.live_mask` returned.

    Raises InputError for padding where the next token is asked for, for `use_cache=False` after
    live tokens, and for a prompt that begins with the memory's own demonstrations.
    """
    rows = cache.live_rows
    if torch.compiler.is_compiling():
        rows.coming = None
        return
    begins = rows.next_position is None
    rows.coming = tokens if tokens.ndim == 2 else None
    if begins:
        _refuse_whole_prompt(cache, rows.coming, mask)
    elif use_cache is False:
        raise InputError(
            f"use_cache=False reads a conversation anew at every step, but the cache holds "
            f"{int(cache.get_seq_length())} live tokens already. Leave use_cache out, or take a "
            "fresh memory.cache()."
        )
    if isinstance(logits_to_keep, int) and logits_to_keep == 1 and (begins or tokens.shape[1] > 1):
        _refuse_padding_at_the_end(mask)


def _refuse_padding_at_the_end(mask: Mask) -> None:
    """Raise InputError where a row ends in padding, whose logits would be taken for the answer."""
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return
    wrong = ((mask[:, -1] == 0) & mask.bool().any(1)).nonzero().flatten().tolist()
    if wrong:
        raise InputError(
            f"Row {wrong[0]} of the batch ends in padding, where its next token is asked for. Pad "
            "on the left (padding_side='left')."
        )


def _refuse_whole_prompt(cache: MemoryCache, ids: Tensor | None, mask: Mask) -> None:
    """Raise InputError where a row begins with the demonstrations that the memory stands for."""
    length, digest = cache.logical_length, cache.transcript
    if digest is None or ids is None or ids.shape[1] < length or length == 0:
        return
    for row in range(ids.shape[0]):
        own = ids[row]
        if isinstance(mask, Tensor) and mask.ndim == 2 and mask.shape == ids.shape:
            own = own[mask[row].bool()]
        if len(own) >= length and _is_transcript(own, digest, length):
            raise InputError(
                f"The prompt begins with the {length} tokens of the demonstrations that the memory "
                "stands for, so they would be read twice. Give the question alone "
                "(model.inputs(memory, …) makes its tokens), or leave the memory out."
            )


def _is_transcript(ids: Tensor, digest: TranscriptDigest, length: int) -> bool:
    """Whether ids begin with the transcript, known as a whole or piece by piece."""
    pieces: Sequence[Sequence[Any]] = ((length, digest),) if isinstance(digest, str) else digest
    start = 0
    for tokens, expected in pieces:
        if transcript_digest(ids[start : start + tokens]) != expected:
            return False
        start += tokens
    return True


def transcript_digest(ids: Tensor) -> str:
    """Return the SHA-256 of token ids (tokens,), in hexadecimal."""
    return hashlib.sha256(ids.to("cpu", torch.int32).contiguous().numpy().tobytes()).hexdigest()


def check_generate(
    cache: MemoryCache, tokens: Tensor, mask: Mask, new_tokens: int | None
) -> tuple[Tensor | None, int]:
    """Check a `generate` call; return its mask, of the live tokens alone, and its new tokens.

    `tokens` are all ids (or embeddings) given, `new_tokens` the most that it may generate.

    Raises InputError as `check_forward` does, and for a second question over live tokens of a first
    one, for a buffer that is too small, and for a mask that is not (batch, tokens).
    """
    if mask is not None and (not isinstance(mask, Tensor) or mask.ndim != 2):
        raise InputError(
            "generate() takes an attention_mask (batch, tokens) with 1 for tokens and 0 for "
            "padding; one that is prepared for attention belongs into the model's forward call."
        )
    cache.refuse_unfinished()
    batch, count = tokens.shape[:2]
    live = int(cache.get_seq_length())
    if live == 0:
        mask = cast(Tensor | None, cache.live_mask(mask, batch, count))
        _refuse_whole_prompt(cache, tokens if tokens.ndim == 2 else None, mask)
    else:
        mask, count = _continued(cache, tokens, mask, live)
    _refuse_padding_at_the_end(mask)
    if new_tokens is not None:
        cache.check_room(live + count + max(new_tokens, 1) - 1)
    return mask, count


def _continued(
    cache: MemoryCache, tokens: Tensor, mask: Tensor | None, live: int
) -> tuple[Tensor | None, int]:
    """The mask of a conversation that goes on, and how many tokens are new.

    transformers takes either the whole conversation so far with a mask of its length, or the new
    tokens with a mask of the whole.
    """
    count = tokens.shape[1]
    columns = count if mask is None else mask.shape[1]
    known = cache.live_rows.live_ids(live)
    is_whole = count > live and (known is None or tokens.ndim != 2 or _begins_with(tokens, known))
    if is_whole and (columns == count or columns == cache.logical_length + count):
        return None if mask is None else mask[:, columns - count :], count - live
    if columns in (live + count, cache.logical_length + live + count):
        assert mask is not None
        return mask[:, columns - live - count :], count
    raise InputError(
        f"The cache holds {live} live tokens of an earlier question, and the {count} given do not "
        f"go on with them. {ANOTHER_QUESTION}"
    )


def _begins_with(tokens: Tensor, known: Tensor) -> bool:
    head = tokens[:, : known.shape[1]]
    return head.shape == known.shape and torch.equal(head.to(known.device), known)
