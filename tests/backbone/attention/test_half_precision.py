"""In 16 bits a full memory is no further from float64 than 1.5 times stock attention."""

import pytest
import torch
from torch import Tensor

from tasm.backbone import MemoryCache, attach, detach
from tests.backbone.attention.exactness import tiny_or_skip
from tests.tiny_models import FAMILIES, Tiny, Turn

FLOAT16 = ["llama", "gemma2", "gpt_oss"]
CASES = [(family, torch.bfloat16) for family in FAMILIES] + [
    (family, torch.float16) for family in FLOAT16 if family in FAMILIES
]


def logits(tiny: Tiny, turns: list[Turn], answered: int, cache: object = None) -> Tensor:
    """Logits of the last `answered` tokens, in float64."""
    inputs = {
        name: value.to(tiny.model.dtype) if value.is_floating_point() else value
        for name, value in tiny.inputs(turns).items()
    }
    with torch.no_grad():
        given = {} if cache is None else {"past_key_values": cache}
        return tiny.model(**inputs, **given).logits[0, -answered:].double()


@pytest.mark.parametrize(("family", "dtype"), CASES)
def test_error_of_a_full_memory(family: str, dtype: torch.dtype) -> None:
    tiny, exact = tiny_or_skip(family), tiny_or_skip(family)
    tiny.model.to(dtype)
    exact.model.to(torch.float64)
    if hasattr(exact.model, "set_experts_implementation"):  # the grouped product has no float64
        exact.model.set_experts_implementation("eager")
    exact.model.load_state_dict(tiny.model.state_dict())  # the rounded weights, computed exactly
    turns, query = [tiny.turn(1), tiny.turn(2, 9), tiny.turn(3, 5)], tiny.turn(10, 12)
    answered = 6
    detach(exact.model, "eager")
    wanted = logits(exact, [*turns, query], answered)
    detach(tiny.model, "eager")
    stock = logits(tiny, [*turns, query], answered)
    attach(tiny.model)
    cache = MemoryCache.empty(tiny.model.config)
    logits(tiny, turns, 1, cache)
    cache.commit()
    ours = logits(tiny, [query], answered, cache)
    error, allowed = ((one - wanted).square().mean().sqrt() for one in (ours, stock))
    assert allowed > 0 and error <= 1.5 * allowed
