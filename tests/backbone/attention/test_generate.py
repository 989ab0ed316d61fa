"""generate() in all its ways over a memory gives what it gives over the whole prompt."""

import pytest
import torch

from tasm.backbone import attach, detach
from tests.backbone.attention.exactness import encode, generate, stock, tiny_or_skip
from tests.tiny_models import Turn

pytestmark = pytest.mark.matrix

WAYS = {
    "beams": {"num_beams": 3},
    "beam samples": {"num_beams": 2, "do_sample": True, "top_k": 20},
    "samples": {"do_sample": True, "temperature": 1.5},
    "several samples": {"do_sample": True, "num_return_sequences": 3},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "gemma3"])
def test_generate_equals_stock(family: str, way: str) -> None:
    tiny = tiny_or_skip(family)
    # One image in all: older versions of generate() mix up several when they repeat rows.
    demonstrations, query = [tiny.turn(1), Turn([30, 31, 32])], Turn([40, 41, 42, 43])
    options = {
        "max_new_tokens": 6, "suppress_tokens": list(range(180, 200)), "do_sample": False,
        **WAYS[way],
    }  # fmt: skip
    detach(tiny.model, "sdpa")
    torch.manual_seed(7)
    whole = tiny.batch([query])
    inputs = tiny.inputs([*demonstrations, query])
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    expected = tiny.model.generate(**inputs, **options)[:, -6:]
    memory = encode(tiny, [demonstrations])
    torch.manual_seed(7)
    tokens = tiny.model.generate(**whole, past_key_values=memory.fork(), **options)[:, -6:]
    assert tokens.tolist() == expected.tolist()


def test_padded_beams_equal_single_beams() -> None:
    tiny = tiny_or_skip("qwen2_vl")
    memory = encode(tiny, [[tiny.turn(1)]])
    queries = [tiny.turn(2), tiny.turn(3, 11)]
    options = {
        "num_beams": 3, "max_new_tokens": 6, "suppress_tokens": list(range(180, 200)),
        "do_sample": False,
    }  # fmt: skip
    together = tiny.model.generate(**tiny.batch(queries), past_key_values=memory.fork(), **options)
    for row, query in enumerate(queries):
        alone = tiny.model.generate(**tiny.batch([query]), past_key_values=memory.fork(), **options)
        assert together[row, -6:].tolist() == alone[0, -6:].tolist()


@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "gemma3"])
def test_looking_up_the_prompt(family: str) -> None:
    tiny = tiny_or_skip(family)
    memory = encode(tiny, [[tiny.turn(1)]])
    query = tiny.batch([Turn([40, 41, 42, 43, 40, 41])])
    expected, _ = generate(tiny, memory.fork(), query)
    tokens = tiny.model.generate(
        **query, past_key_values=memory.fork(), prompt_lookup_num_tokens=2, max_new_tokens=6,
        suppress_tokens=list(range(180, 200)), do_sample=False, eos_token_id=199,
    )  # fmt: skip
    assert tokens[:, -6:].tolist() == expected.tolist()


def test_assisted_by_another_model() -> None:
    tiny, helper = tiny_or_skip("llama"), tiny_or_skip("llama", num_hidden_layers=1)
    memory, query = encode(tiny, [[tiny.turn(1)]]), tiny.batch([tiny.turn(2)])
    expected, _ = generate(tiny, memory.fork(), query)
    tokens = tiny.model.generate(
        **query, past_key_values=memory.fork(), assistant_model=helper.model, max_new_tokens=6,
        suppress_tokens=list(range(180, 200)), do_sample=False,
    )  # fmt: skip
    assert tokens[:, -6:].tolist() == expected.tolist()


def test_streaming() -> None:
    tiny = tiny_or_skip("qwen2_vl")
    memory, query = encode(tiny, [[tiny.turn(1)]]), tiny.batch([tiny.turn(2)])
    expected, _ = generate(tiny, memory.fork(), query)

    class Streamer:
        def __init__(self) -> None:
            self.tokens: list[int] = []

        def put(self, value: torch.Tensor) -> None:
            self.tokens += value.flatten().tolist()

        def end(self) -> None:
            self.tokens.append(-1)

    streamer = Streamer()
    generate(tiny, memory.fork(), query, streamer=streamer)
    assert streamer.tokens[-7:] == [*expected[0].tolist(), -1]


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "llava", "gemma3", "glm4v"])
def test_manual_loop_trusts_no_leftovers(family: str) -> None:
    """A decoding loop by hand after another prompt has left its rope_deltas behind."""
    tiny = tiny_or_skip(family)
    demonstration, query, answer = tiny.turn(1), tiny.turn(2), [5, 9, 13]
    session = encode(tiny, [[demonstration]]).fork()
    with torch.no_grad():
        logits = [tiny.model(**tiny.inputs([query]), past_key_values=session).logits[0, -1]]
        inner = getattr(tiny.model, "model", tiny.model)
        if getattr(inner, "rope_deltas", None) is not None:
            inner.rope_deltas = inner.rope_deltas + 11
        for token in answer:
            step = tiny.model(input_ids=torch.tensor([[token]]), past_key_values=session)
            logits.append(step.logits[0, -1])
    expected = stock(tiny, [demonstration, query], answer)
    torch.testing.assert_close(torch.stack(logits), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "qwen2_vl"])
def test_a_query_read_in_several_calls(family: str) -> None:
    tiny = tiny_or_skip(family)
    demonstration, query = tiny.turn(1), tiny.turn(2)
    session = encode(tiny, [[demonstration]]).fork()
    with torch.no_grad():
        tiny.model(**tiny.inputs([query]), past_key_values=session)
        more = tiny.model(input_ids=torch.tensor([[5, 6, 7]]), past_key_values=session).logits[0]
    expected = stock(tiny, [demonstration, query], [5, 6, 7])[1:]
    torch.testing.assert_close(more, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_generate_that_chunks_a_padded_prompt(family: str) -> None:
    """A short row is all padding in the first chunk."""
    tiny = tiny_or_skip(family)
    memory, queries = (
        encode(tiny, [[tiny.turn(1)]]),
        tiny.batch([tiny.turn(2, 3), tiny.turn(3, 11)]),
    )
    expected, logits = generate(tiny, memory.fork(), queries)
    tokens, chunked = generate(tiny, memory.fork(), queries, prefill_chunk_size=4)
    assert tokens.tolist() == expected.tolist()
    torch.testing.assert_close(chunked, logits, atol=1e-5, rtol=0)


def test_a_padded_forward_without_positions() -> None:
    """A plain forward gives no positions; the mask then says where each row begins."""
    tiny = tiny_or_skip("llama")
    demonstration, queries = tiny.turn(1), [tiny.turn(2), tiny.turn(3, 11)]
    attach(tiny.model)
    session = encode(tiny, [[demonstration]]).fork()
    with torch.no_grad():
        logits = tiny.model(**tiny.batch(queries), past_key_values=session).logits[:, -1]
    for row, query in enumerate(queries):
        expected = stock(tiny, [demonstration, query])[0]
        torch.testing.assert_close(logits[row], expected, atol=1e-5, rtol=0)


def test_half_precision_stays_within_its_rounding() -> None:
    tiny = tiny_or_skip("qwen2_vl")
    demonstration, query = tiny.turn(1), tiny.turn(2)
    expected = stock(tiny, [demonstration, query])[0]
    tiny.model.to(torch.bfloat16)
    rounded = stock(tiny, [demonstration, query])[0].float()
    session = encode(tiny, [[demonstration]]).fork()
    with torch.no_grad():
        logits = tiny.model(**tiny.inputs([query]), past_key_values=session).logits[0, -1].float()
    assert (logits - expected).abs().max() < 2 * (rounded - expected).abs().max()
