"""The oracle of the exactness tests: one stock forward over the whole prompt."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tasm.backbone import MemoryCache, attach, detach
from tests.tiny_models import VOCABULARY, FamilyMissing, Tiny, Turn, tiny_model

STEPS = 6


def tiny_or_skip(family: str, **changes: Any) -> Tiny:
    try:
        return tiny_model(family, **changes)
    except FamilyMissing as reason:
        pytest.skip(str(reason))


def stock(tiny: Tiny, turns: Sequence[Turn], answer: Sequence[int] = ()) -> Tensor:
    """Logits of one ordinary forward, at the last prompt token and the answer's tokens."""
    detach(tiny.model, "eager")
    whole = [*turns[:-1], Turn([*turns[-1].ids, *answer], turns[-1].images)]
    with torch.no_grad():
        logits = tiny.model(**tiny.inputs(whole)).logits[0]
    return logits[len(logits) - len(answer) - 1 :]


def encode(tiny: Tiny, groups: Sequence[Sequence[Turn]]) -> MemoryCache:
    """A full memory of the turns, one forward and one commit a group."""
    attach(tiny.model)
    cache = MemoryCache.empty(tiny.model.config)
    with torch.no_grad():
        for group in groups:
            tiny.model(**tiny.inputs(group), past_key_values=cache, logits_to_keep=1)
            cache.commit()
    return cache


def generate(
    tiny: Tiny, cache: Any, inputs: dict[str, Tensor], **options: Any
) -> tuple[Tensor, Tensor]:
    """Greedy tokens (batch, steps) and logits (batch, steps, vocabulary) of `generate`."""
    output = tiny.model.generate(
        **inputs,
        past_key_values=cache,
        max_new_tokens=STEPS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        suppress_tokens=list(range(180, VOCABULARY)),  # an image token would need an image
        **options,
    )
    return output.sequences[:, -STEPS:], torch.stack(output.logits, 1)
