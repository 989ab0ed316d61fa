"""A live part of fixed size: the same numbers, and one graph under torch.compile."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch._dynamo.testing import CompileCounter

from tasm.backbone import MemoryCache
from tasm.errors import InputError
from tests.backbone.attention.exactness import encode, generate, tiny_or_skip
from tests.tiny_models import Tiny, Turn

pytestmark = pytest.mark.matrix


def skip_where_a_buffer_does_not_compile(family: str, live: str) -> None:
    """4.57 and 5.0 write `torch.arange(live, live + tokens)` in most decoders; 5.0's Llama not."""
    mixin = transformers.GenerationMixin
    older = hasattr(mixin, "_get_initial_cache_position")
    if live == "static" and older and (family != "llama" or not hasattr(mixin, "_prefill")):
        pytest.skip("this transformers' decoder makes a range of a buffer's length, not traceable")


def fixed(tiny: Tiny, memory: MemoryCache, live_tokens: int = 64) -> MemoryCache:
    return MemoryCache.from_segments(
        tiny.model.config,
        memory.segments,
        next_position=memory.next_position,
        logical_length=memory.logical_length,
        live_tokens=live_tokens,
    )


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "llava", "gemma3"])
def test_static_equals_dynamic(family: str) -> None:
    tiny = tiny_or_skip(family)
    memory = encode(tiny, [[tiny.turn(1)], [tiny.turn(2)]])
    queries = tiny.batch([tiny.turn(3), tiny.turn(4, 9)])
    tokens, logits = generate(tiny, memory.fork(), queries)
    session = fixed(tiny, memory)
    for _ in range(2):
        static_tokens, static = generate(tiny, session, queries, disable_compile=True)
        assert static_tokens.tolist() == tokens.tolist()
        torch.testing.assert_close(static, logits, atol=1e-5, rtol=0)
        session.reset()
    assert session.fork().live_tokens == 64


def test_beams_reorder_the_buffer() -> None:
    tiny = tiny_or_skip("llava")
    memory, query = encode(tiny, [[tiny.turn(1)]]), tiny.batch([tiny.turn(3)])
    expected, _ = generate(tiny, memory.fork(), query, num_beams=3)
    tokens, _ = generate(tiny, fixed(tiny, memory), query, num_beams=3, disable_compile=True)
    assert tokens.tolist() == expected.tolist()


def test_what_a_buffer_cannot_do_is_refused() -> None:
    tiny = tiny_or_skip("llama")
    cache = fixed(tiny, encode(tiny, [[tiny.turn(1)]]))
    with torch.no_grad():
        tiny.model(**tiny.inputs([tiny.turn(2)]), past_key_values=cache)
    with pytest.raises(InputError, match="cannot commit"):
        cache.commit()
    with pytest.raises(InputError, match="cannot be cropped"):
        cache.crop(-1)
    with pytest.raises(InputError, match="fixed batch"):
        cache.batch_repeat_interleave(2)
    with pytest.raises(InputError, match="fixed batch"):
        cache.batch_select_indices(torch.tensor([0]))


@pytest.mark.parametrize(
    ("live", "family", "graphs"),
    [("static", "qwen2_vl", 1), ("static", "gemma3", 1), ("dynamic", "llava", 2)],
)
def test_decoding_compiles_without_graph_breaks(live: str, family: str, graphs: int) -> None:
    """A growing live part is compiled once more, for lengths that change."""
    skip_where_a_buffer_does_not_compile(family, live)
    tiny = tiny_or_skip(family)
    memory = encode(tiny, [[tiny.turn(1)]])
    query = tiny.inputs([tiny.turn(2)])
    rows = (3,) if family == "qwen2_vl" else ()
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(tiny.model.forward, backend=counter, fullgraph=True)

    def run(forward: Callable[..., Any]) -> torch.Tensor:
        cache = fixed(tiny, memory) if live == "static" else memory.fork()
        logits = []
        with torch.no_grad():
            tiny.model(**query, past_key_values=cache)
            for token in (5, 6, 7, 8):
                ids = torch.tensor([[token]])
                # Without positions, Qwen2-VL itself branches on a static cache's length. What they
                # say is ignored.
                places = torch.zeros(*rows, 1, 1, dtype=torch.long)
                step = forward(input_ids=ids, position_ids=places, past_key_values=cache)
                logits.append(step.logits)
        return torch.stack(logits)

    expected = run(tiny.model.forward)
    torch.testing.assert_close(run(compiled), expected, atol=1e-5, rtol=0)
    assert counter.frame_count <= graphs


@pytest.mark.parametrize(
    ("family", "live", "padded"),
    [
        ("qwen2_vl", "static", False),
        ("llama", "static", True),
        ("llama", "dynamic", False),
        ("gemma3", "dynamic", True),
    ],
)
def test_the_whole_model_compiles(family: str, live: str, padded: bool) -> None:
    """`torch.compile(model)`: prompt and steps without graph breaks. Of Qwen2-VL only a prompt of
    text, since its own image tower breaks graphs."""
    skip_where_a_buffer_does_not_compile(family, live)
    tiny = tiny_or_skip(family)
    memory = encode(tiny, [[tiny.turn(1)]])
    turns = [Turn([40, 41, 42, 43]), Turn([*range(50, 60)])][: 2 if padded else 1]
    query = tiny.batch(turns)
    if not padded:
        query.pop("attention_mask")
    if family == "qwen2_vl":
        query.pop("mm_token_type_ids", None)
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(tiny.model, backend=counter, fullgraph=True)

    def run(model: Any) -> torch.Tensor:
        cache = fixed(tiny, memory) if live == "static" else memory.fork()
        given, logits = dict(query), []
        with torch.no_grad():
            for token in (5, 6, 7):
                logits.append(model(**given, past_key_values=cache).logits[:, -1])
                mask = given.get("attention_mask")
                given = {"input_ids": torch.full((len(turns), 1), token)}
                if mask is not None:
                    given["attention_mask"] = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        return torch.stack(logits)

    torch.testing.assert_close(run(compiled), run(tiny.model), atol=1e-5, rtol=0)
    assert counter.frame_count > 0
