"""Masks of any width and kind, padding in any chunk: the answer of the query's own mask, or a
sentence."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tasm.backbone import MemoryCache
from tasm.errors import InputError
from tests.backbone.attention.exactness import encode, generate, stock, tiny_or_skip
from tests.backbone.attention.test_static import fixed
from tests.tiny_models import FAMILIES, Tiny, Turn

pytestmark = pytest.mark.matrix

PADDED = [family for family in FAMILIES if family != "qwen3_5"]
"""Recurrent layers take no padding."""


def logits(tiny: Tiny, cache: MemoryCache, **inputs: Any) -> Tensor:
    with torch.no_grad():
        return tiny.model(**inputs, past_key_values=cache).logits[:, -1]


def wider(mask: Tensor, columns: int) -> Tensor:
    return torch.cat([torch.ones(len(mask), columns, dtype=mask.dtype), mask], 1)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", PADDED)
def test_the_whole_prompts_mask(family: str) -> None:
    """Wider by the memory, as prefix caches want it, or by a few; forward, steps and generate."""
    tiny = tiny_or_skip(family)
    memory = encode(tiny, [[tiny.turn(1)]])
    queries = tiny.batch([tiny.turn(2), tiny.turn(3, 11)])
    mask, batch = queries["attention_mask"], len(queries["input_ids"])
    first = memory.fork()
    expected = [logits(tiny, first, **queries)]
    step = {"input_ids": torch.full((batch, 1), 5)}
    expected.append(logits(tiny, first, **step, attention_mask=torch.cat([mask, mask[:, -1:]], 1)))
    for columns in (1, 5, memory.logical_length):
        session = memory.fork()
        given = queries | {"attention_mask": wider(mask, columns)}
        close(logits(tiny, session, **given), expected[0])
        longer = wider(torch.cat([mask, mask[:, -1:]], 1), columns)
        close(logits(tiny, session, **step, attention_mask=longer), expected[1])
    _, generated = generate(tiny, memory.fork(), queries)
    given = queries | {"attention_mask": wider(mask, memory.logical_length)}
    close(generate(tiny, memory.fork(), given)[1], generated)
    if family in ("qwen2_vl", "gemma3", "llama"):
        found = generate(tiny, fixed(tiny, memory), given, disable_compile=True)[1]
        close(found, generated)


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "bool": lambda mask: mask.bool(),
    "float": lambda mask: mask.float(),
    "int32": lambda mask: mask.int(),
    "uint8": lambda mask: mask.to(torch.uint8),
    "half": lambda mask: mask.half(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "gemma3"])
def test_masks_of_other_dtypes(family: str, kind: str) -> None:
    tiny = tiny_or_skip(family)
    memory = encode(tiny, [[tiny.turn(1)]])
    queries = tiny.batch([tiny.turn(2), tiny.turn(3, 11)])
    expected = logits(tiny, memory.fork(), **queries)
    given = queries | {"attention_mask": KINDS[kind](wider(queries["attention_mask"], 3))}
    close(logits(tiny, memory.fork(), **given), expected)
    tokens, _ = generate(tiny, memory.fork(), queries)
    assert generate(tiny, memory.fork(), given)[0].tolist() == tokens.tolist()


def prepared(mask: Tensor) -> Tensor:
    """Causal and padding, bool (batch, 1, n, n)."""
    n = mask.shape[1]
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    return causal[None, None] & mask.bool()[:, None, None]


PREPARED: dict[str, Callable[[Tensor], Tensor]] = {
    "bool": lambda mask: mask,
    "integers": lambda mask: mask.long(),
    "added": lambda mask: torch.where(mask, 0.0, torch.finfo(torch.float32).min),
    "minus infinity": lambda mask: torch.where(mask, 0.0, float("-inf")),
    "ten thousand": lambda mask: torch.where(mask, 0.0, -10_000.0),
    "with the memory": lambda mask: torch.cat(
        [torch.ones(*mask.shape[:3], 6, dtype=torch.bool), mask], 3
    ),
}


@pytest.mark.parametrize("kind", PREPARED)
@pytest.mark.parametrize("live", ["dynamic", "static"])
def test_prepared_masks(kind: str, live: str) -> None:
    tiny = tiny_or_skip("llama")
    memory = encode(tiny, [[tiny.turn(1, 60)]])
    queries = tiny.batch([tiny.turn(2), tiny.turn(3, 11)])
    expected = logits(tiny, memory.fork(), **queries)
    given = queries | {"attention_mask": PREPARED[kind](prepared(queries["attention_mask"]))}
    cache = memory.fork() if live == "dynamic" else fixed(tiny, memory)
    close(logits(tiny, cache, **given), expected)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda mask: mask[:, 2:], "covers 7 tokens but the call has 9"),
        (lambda mask: mask[:, None], "is 3 dimensions"),
        (lambda mask: mask.tolist(), "is list"),
        (lambda mask: mask[:1].expand(3, -1), "has 3 rows but the call has 2"),
        (lambda mask: torch.cat([mask * 0, mask], 1), "9 columns in front .* some are 0"),
        (lambda mask: (1 - mask) * -1e4, "negative values"),
        (lambda mask: prepared(mask).expand(-1, 4, -1, -1), "one mask for all heads"),
        (lambda mask: prepared(mask)[:, :, 1:], "for a call of 9 tokens"),
        (lambda mask: prepared(mask)[..., 1:], "covers 8 tokens"),
        (lambda mask: torch.cat([~prepared(mask) & False, prepared(mask)], 3), "hides some"),
    ],
)
def test_masks_that_cannot_be_right_are_refused(change: Any, sentence: str) -> None:
    tiny = tiny_or_skip("llama")
    memory = encode(tiny, [[tiny.turn(1)]])
    queries = tiny.batch([Turn([5, 6, 7]), tiny.turn(3, 9)])
    given = queries | {"attention_mask": change(queries["attention_mask"])}
    with pytest.raises(InputError, match=sentence):
        logits(tiny, memory.fork(), **given)
    if isinstance(given["attention_mask"], Tensor):
        with pytest.raises(InputError):
            generate(tiny, memory.fork(), given)


@pytest.mark.parametrize("live", ["dynamic", "static"])
@pytest.mark.parametrize("family", PADDED)
def test_padding_in_later_chunks(family: str, live: str) -> None:
    """`prefill_chunk_size`, down to one token, and chunks by hand, against the query in one."""
    tiny = tiny_or_skip(family)
    memory = encode(tiny, [[tiny.turn(1)]])
    short = Turn([40, 41, 42])
    queries = tiny.batch([short, Turn(list(range(50, 63))), Turn([7])])
    tokens, expected = generate(tiny, memory.fork(), queries)
    close(expected[0], stock(tiny, [tiny.turn(1), short], tokens[0, :-1].tolist()))
    memory = encode(tiny, [[tiny.turn(1)]])

    def session() -> MemoryCache:
        return memory.fork() if live == "dynamic" else fixed(tiny, memory)

    miscounts = hasattr(tiny.model, "_get_initial_cache_position") and hasattr(
        tiny.model, "_prefill"
    )
    if live == "static" and miscounts:
        with pytest.raises(InputError, match="prefill_chunk_size is not right beside live_tokens"):
            generate(tiny, session(), queries, prefill_chunk_size=5, disable_compile=True)
    for size in () if live == "static" and miscounts else (1, 5):
        found, chunked = generate(
            tiny, session(), queries, prefill_chunk_size=size, disable_compile=True
        )
        assert found.tolist() == tokens.tolist()
        close(chunked, expected)
    by_hand, ids, mask = session(), queries["input_ids"], queries["attention_mask"]
    for first, stop in ((0, 4), (4, 5), (5, 11), (11, 13)):
        last = logits(tiny, by_hand, input_ids=ids[:, first:stop], attention_mask=mask[:, :stop])
    close(last, expected[:, 0])


@pytest.mark.parametrize("live", ["dynamic", "static"])
@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "gemma3"])
def test_steps_without_a_mask_remember_the_padding(family: str, live: str) -> None:
    tiny = tiny_or_skip(family)
    demonstration, queries = tiny.turn(1), [tiny.turn(2), tiny.turn(3, 11)]
    memory = encode(tiny, [[demonstration]])
    session = memory.fork() if live == "dynamic" else fixed(tiny, memory)
    logits(tiny, session, **tiny.batch(queries))
    logits(tiny, session, input_ids=torch.full((2, 1), 5))
    found = logits(tiny, session, input_ids=torch.full((2, 2), 6))
    for row, query in enumerate(queries):
        close(found[row], stock(tiny, [demonstration, query], [5, 6, 6])[-1])


@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "internvl", "llama"])
def test_padding_on_the_right(family: str) -> None:
    """A forward call is exact at every real token; `generate`, which takes the last, refuses."""
    tiny = tiny_or_skip(family)
    demonstration, turns = tiny.turn(1), [tiny.turn(2), tiny.turn(3, 11)]
    memory = encode(tiny, [[demonstration]])
    queries = tiny.batch(turns)
    for name in ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"):
        if name in queries:
            pads = int((queries["attention_mask"][0] == 0).sum())
            queries[name][0] = queries[name][0].roll(-pads)
    with pytest.raises(InputError, match=r"Row 0 of the batch ends in padding.*left"):
        generate(tiny, memory.fork(), queries)
    with torch.no_grad():
        found = tiny.model(**queries, past_key_values=memory.fork()).logits
    for row, turn in enumerate(turns):
        close(found[row, len(turn.ids) - 1], stock(tiny, [demonstration, turn])[0])


def test_padding_between_tokens_is_refused_where_windows_slide() -> None:
    tiny = tiny_or_skip("gemma2")
    memory = encode(tiny, [[tiny.turn(1)]])
    session, ids = memory.fork(), torch.tensor([[5, 6, 7]])
    logits(tiny, session, input_ids=ids, attention_mask=torch.tensor([[1, 1, 0]]))
    with pytest.raises(InputError, match="Padding stands between"):
        logits(tiny, session, input_ids=ids, attention_mask=torch.tensor([[1, 1, 0, 1, 1, 1]]))
    with pytest.raises(InputError, match="Padding stands between"):
        logits(tiny, memory.fork(), input_ids=ids, attention_mask=torch.tensor([[1, 0, 1]]))
