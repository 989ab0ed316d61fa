"""One cache for several calls: a conversation that goes on is exact, everything else a sentence."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from tasm.backbone import MemoryCache, attach, detach, find_decoder
from tasm.backbone.attention.admission import transcript_digest
from tasm.errors import InputError, UnreadMemoryError
from tests.backbone.attention.exactness import STEPS, encode, generate, stock, tiny_or_skip
from tests.backbone.attention.test_static import fixed
from tests.tiny_models import FAMILIES, Tiny, Turn

pytestmark = pytest.mark.matrix


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def ones(ids: list[int], width: int | None = None) -> dict[str, Tensor]:
    mask = torch.ones(1, width or len(ids), dtype=torch.long)
    return {"input_ids": torch.tensor([ids]), "attention_mask": mask}


@pytest.mark.parametrize("where", ["argument", "settings", "forward"])
@pytest.mark.parametrize("family", FAMILIES)
def test_use_cache_false(family: str, where: str) -> None:
    """The same answer, and nothing live is left."""
    tiny = tiny_or_skip(family)
    memory, query = encode(tiny, [[tiny.turn(1)]]), tiny.batch([tiny.turn(2)])
    session = memory.fork()
    if where == "forward":
        with torch.no_grad():
            expected = tiny.model(**query, past_key_values=memory.fork()).logits
            for _ in range(2):
                found = tiny.model(**query, past_key_values=session, use_cache=False).logits
                close(found, expected)
    else:
        _, expected = generate(tiny, memory.fork(), query)
        options = {"use_cache": False} if where == "argument" else {}
        tiny.model.generation_config.use_cache = where != "settings"
        close(generate(tiny, session, query, **options)[1], expected)
    assert int(session.get_seq_length()) == 0


def test_use_cache_false_in_the_middle_is_refused() -> None:
    tiny = tiny_or_skip("llama")
    session = encode(tiny, [[tiny.turn(1)]]).fork()
    generate(tiny, session, ones([5, 6, 7]))
    more = ones([*range(40, 50)], 10 + int(session.get_seq_length()))
    with pytest.raises(InputError, match="use_cache=False"):
        generate(tiny, session, more, use_cache=False)
    with pytest.raises(InputError, match="use_cache=False"), torch.no_grad():
        tiny.model(**more, past_key_values=session, use_cache=False)


@pytest.mark.parametrize("live", ["dynamic", "static"])
@pytest.mark.parametrize("family", ["llama", "qwen2_vl", "llava", "gemma3"])
def test_a_second_question_is_refused_and_a_conversation_goes_on(family: str, live: str) -> None:
    tiny = tiny_or_skip(family)
    memory, first = encode(tiny, [[tiny.turn(1)]]), tiny.turn(2)

    def session() -> MemoryCache:
        cache = memory.fork() if live == "dynamic" else fixed(tiny, memory, 100)
        said.append(generate(tiny, cache, tiny.batch([first]), disable_compile=True)[0][0])
        return cache

    said: list[Tensor] = []
    cache = session()
    held = int(cache.get_seq_length())
    longer = Turn([*range(60, 60 + held + 4)])
    for other in (Turn([40, 41, 42]), Turn([*range(60, 60 + held)]), longer):
        with pytest.raises(InputError, match=r"holds \d+ live tokens of an earlier question"):
            generate(tiny, cache, ones(other.ids), disable_compile=True)
        with pytest.raises(InputError, match=r"earlier question.*memory\.cache\(\)"):
            generate(tiny, cache, {"input_ids": torch.tensor([other.ids])}, disable_compile=True)
    with pytest.raises(InputError, match=r"holds \d+ live tokens"), torch.no_grad():
        tiny.model(**ones([40, 41, 42]), past_key_values=cache)

    # The whole conversation again, with more; only what is new, with the mask of the whole.
    new = [44, 45, 46]
    whole = [*first.ids, *said[0].tolist(), *new]
    tokens, logits = generate(tiny, cache, ones(whole), disable_compile=True)
    turns = [tiny.turn(1), Turn(whole, first.images)]
    expected = stock(tiny, turns, tokens[0, :-1].tolist())
    close(logits[0], expected)
    attach(tiny.model)
    cache = session()
    rest = [int(said[1][-1]), *new]
    only_new = ones(rest, int(cache.get_seq_length()) + len(rest))
    close(generate(tiny, cache, only_new, disable_compile=True)[1][0], expected)
    cache.reset()
    assert generate(tiny, cache, tiny.batch([first]), disable_compile=True)[0].tolist() == [
        said[0].tolist()
    ]


@pytest.mark.parametrize("family", ["llama", "qwen2_vl"])
def test_the_whole_prompt_beside_the_memory(family: str) -> None:
    tiny = tiny_or_skip(family)
    demonstrations, query = [tiny.turn(1), tiny.turn(2)], tiny.turn(3)
    memory = encode(tiny, [demonstrations])
    ids = tiny.inputs(demonstrations)["input_ids"][0]
    memory.transcript = transcript_digest(ids)
    whole = tiny.inputs([*demonstrations, query])
    padded = {
        **whole,
        "input_ids": torch.cat([torch.zeros(1, 2, dtype=torch.long), whole["input_ids"]], 1),
        "attention_mask": torch.tensor([[0, 0] + [1] * whole["input_ids"].shape[1]]),
    }
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in whole:
            padded[name] = torch.cat([torch.zeros(1, 2, dtype=torch.long), whole[name]], 1)
    for given in (whole, padded):
        with pytest.raises(InputError, match=r"begins with the .* tokens of the demonstrations"):
            generate(tiny, memory.fork(), given)
        with pytest.raises(InputError, match="read twice"), torch.no_grad():
            tiny.model(**given, past_key_values=memory.fork())
    generate(tiny, memory.fork(), tiny.inputs([query, *demonstrations]))


def test_a_call_that_did_not_end() -> None:
    tiny = tiny_or_skip("llama")
    session = encode(tiny, [[tiny.turn(1)]]).fork()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = find_decoder(tiny.model).layers[1].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt), torch.no_grad():
        tiny.model(**ones([5, 6]), past_key_values=session)
    handle.remove()
    with pytest.raises(InputError, match="did not end"), torch.no_grad():
        tiny.model(**ones([5, 6]), past_key_values=session)
    with pytest.raises(InputError, match="did not end"):
        generate(tiny, session, ones([5, 6]))
    session.reset()
    with torch.no_grad():
        tiny.model(**ones([5, 6]), past_key_values=session)


def test_layers_that_never_see_the_cache() -> None:
    """Gradient checkpointing takes the cache away from the layers."""
    tiny = tiny_or_skip("llama")
    memory = encode(tiny, [[tiny.turn(1)]])
    tiny.model.gradient_checkpointing_enable()
    tiny.model.train()
    with pytest.raises(UnreadMemoryError):
        tiny.model(**ones([5, 6]), past_key_values=memory.fork())


def test_a_buffer_that_is_too_small() -> None:
    tiny = tiny_or_skip("llama")
    memory = encode(tiny, [[tiny.turn(1)]])
    sentence = r"live_tokens=4, and question and answer need 5"
    with pytest.raises(InputError, match=sentence), torch.no_grad():
        tiny.model(**ones([5, 6, 7, 8, 9]), past_key_values=fixed(tiny, memory, 4))
    needed = 5 + STEPS - 1
    with pytest.raises(InputError, match=f"live_tokens={needed} or more"):
        generate(tiny, fixed(tiny, memory, needed - 1), ones([5, 6, 7, 8, 9]))
    generate(tiny, fixed(tiny, memory, needed), ones([5, 6, 7, 8, 9]), disable_compile=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["qwen2_vl", "gemma3", "qwen3_5"])
def test_a_memory_in_another_dtype(family: str, dtype: torch.dtype) -> None:
    """Converted when first read, once for all caches over it."""
    tiny = tiny_or_skip(family)
    memory, query = encode(tiny, [[tiny.turn(1)]]), tiny.batch([tiny.turn(2)])
    segments: list[Any] = []
    for layer in memory.segments:
        segments.append(layer and [type(s)(s.keys.to(dtype), s.values.to(dtype), s.bias, s.index)
                                   for s in layer])  # fmt: skip
    states = [
        state and {name: held.to(dtype) if name.startswith("conv") else held
                   for name, held in state.items()}
        for state in memory.states
    ]  # fmt: skip
    about = {"next_position": memory.next_position, "logical_length": memory.logical_length}
    config = tiny.model.config
    first = MemoryCache.from_segments(config, segments, states=states, **about)
    second = MemoryCache.from_segments(config, segments, states=states, **about)
    _, expected = generate(tiny, memory.fork(), query)
    found = [generate(tiny, cache, query)[1] for cache in (first, second)]
    close(found[0][:, :1], expected[:, :1], 0.05)
    assert torch.equal(found[0], found[1])
    for ours, theirs, stored in zip(first.segments, second.segments, segments, strict=True):
        for one, other, before in zip(ours or (), theirs or (), stored or (), strict=True):
            assert one is other and one.keys.dtype == torch.float32
            assert before.keys.dtype == dtype


LONG = {
    "rope_type": "longrope", "rope_theta": 10000.0, "factor": 4.0, "short_factor": [1.0] * 8,
    "long_factor": [1.0 + 3 * place for place in range(8)],
    "original_max_position_embeddings": 48,
}  # fmt: skip


def turning(parameters: dict[str, Any], most: int = 4096) -> Tiny:
    return tiny_or_skip(
        "llama", rope_scaling=dict(parameters), head_dim=16, max_position_embeddings=most
    )


def test_longrope_on_both_sides_of_its_switch() -> None:
    tiny = turning(LONG)
    query = Turn([40, 41, 42])
    for words in (20, 60):  # wholly before, wholly beyond
        turns = [Turn([*range(3, 3 + words)])]
        memory = encode(tiny, [turns])
        tokens, logits = generate(tiny, memory.fork(), ones(query.ids))
        close(logits[0], stock(tiny, [*turns, query], tokens[0, :-1].tolist()))


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_rotations_that_do_not_fit_are_refused(kind: str) -> None:
    dynamic = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    tiny = turning(LONG) if kind == "longrope" else turning(dynamic, 48)
    with pytest.raises(InputError, match=rf"{kind}.*passes 48 positions.*ends at 60"):
        encode(tiny, [[Turn([*range(3, 43)])], [Turn([*range(50, 70)])]])
    memory = encode(tiny, [[Turn([*range(3, 43)])]])
    sentence = r"40 were read before, and it ends at 50"
    with pytest.raises(InputError, match=sentence), torch.no_grad():
        tiny.model(**ones([*range(60, 70)]), past_key_values=memory.fork())
    with pytest.raises(InputError, match="shorter answers"):  # before the first token
        generate(tiny, memory.fork(), ones([60, 61, 62, 63]))
    generate(tiny, memory.fork(), ones([60, 61, 62]))
    session = memory.fork()
    with torch.no_grad():
        tiny.model(**ones([*range(60, 68)]), past_key_values=session)
        with pytest.raises(InputError, match="ends at 49"):
            tiny.model(input_ids=torch.tensor([[5]]), past_key_values=session)


def test_keys_are_turned_back_with_the_whole_prompts_factors() -> None:
    tiny = turning(LONG)
    from tasm.backbone import Rotary

    memory = encode(tiny, [[Turn([*range(3, 63)])]])
    rotary = Rotary(tiny.model)
    keys = memory.segments[0][0].keys[0, :, :10]
    plain = rotary.for_length(60).unrotate(0, keys, memory.positions[:, :10])
    again = rotary.for_length(60).rotate(0, plain, memory.positions[:, :10])
    close(again, keys)
    attach(tiny.model)
    heard: list[Tensor] = []
    module = find_decoder(tiny.model).layers[0].self_attn.k_proj
    handle = module.register_forward_hook(lambda *call: heard.append(call[-1]))
    encode(tiny, [[Turn([*range(3, 63)])]])
    handle.remove()
    close(plain, heard[0][0, :10].view(10, 2, 16).transpose(0, 1))
    assert rotary.for_length(48) is rotary


def test_generate_is_the_classs_own_beside_other_caches_and_copies() -> None:
    tiny = tiny_or_skip("llama")
    attach(tiny.model)
    attach(tiny.model)
    query = ones([5, 6, 7])
    with_hooks = tiny.model.generate(**query, max_new_tokens=3, do_sample=False)
    twin = copy.deepcopy(tiny.model)
    assert twin.generate.__self__ is twin
    assert pickle.loads(pickle.dumps(tiny.model)).generate(**query, max_new_tokens=3).shape == (
        1,
        6,
    )
    detach(tiny.model)
    assert "generate" not in tiny.model.__dict__
    assert torch.equal(tiny.model.generate(**query, max_new_tokens=3, do_sample=False), with_hooks)


def test_inputs_by_position_and_embeddings() -> None:
    tiny = tiny_or_skip("llama")
    memory = encode(tiny, [[tiny.turn(1)]])
    ids, mask = torch.tensor([[0, 5, 6, 7]]), torch.tensor([[1] * 9 + [0, 1, 1, 1]])
    options = {"max_new_tokens": 3, "do_sample": False, "attention_mask": mask}
    expected = tiny.model.generate(ids[:, 1:], past_key_values=memory.fork(), max_new_tokens=3)
    found = tiny.model.generate(ids, past_key_values=memory.fork(), **options)
    assert found[0, -3:].tolist() == expected[0, -3:].tolist()
    embedded = tiny.model.get_input_embeddings()(ids).detach()
    found = tiny.model.generate(inputs_embeds=embedded, past_key_values=memory.fork(), **options)
    assert found[0, -3:].tolist() == expected[0, -3:].tolist()
    with pytest.raises(InputError, match="no tokens"):
        tiny.model.generate(past_key_values=memory.fork())
