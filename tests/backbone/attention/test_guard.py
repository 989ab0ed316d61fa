"""A memory that the running attention cannot see raises at the first forward."""

import pytest
import torch

from tasm.backbone import MemoryCache, attach, detach, find_decoder, set_attention
from tasm.errors import InputError, ModelError, UnreadMemoryError
from tests.backbone.attention.exactness import encode, tiny_or_skip

pytestmark = pytest.mark.matrix


@pytest.mark.parametrize("family", ["qwen2_vl", "llama", "gemma3"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_stock_attention_raises(family: str, attention: str) -> None:
    tiny = tiny_or_skip(family)
    memory, query = encode(tiny, [[tiny.turn(1)]]), tiny.inputs([tiny.turn(2)])
    set_attention(tiny.model, attention)
    with pytest.raises(UnreadMemoryError, match="did not read it"), torch.no_grad():
        tiny.model(**query, past_key_values=memory.fork())
    attach(tiny.model)
    with torch.no_grad():
        tiny.model(**query, past_key_values=memory.fork())


@pytest.mark.parametrize("attention", ["sdpa", "tasm"])
def test_a_model_without_the_hooks_raises_in_its_first_layer(attention: str) -> None:
    tiny = tiny_or_skip("llama")
    memory = encode(tiny, [[tiny.turn(1)]])
    detach(tiny.model)
    set_attention(tiny.model, attention)
    session = memory.fork()
    with pytest.raises(UnreadMemoryError, match="not attached"), torch.no_grad():
        tiny.model(**tiny.inputs([tiny.turn(2)]), past_key_values=session)
    assert session.get_seq_length() == 0


def test_one_layer_that_does_not_read_raises() -> None:
    """As in families that rework the keys between the cache and the attention."""
    tiny = tiny_or_skip("llama")
    memory = encode(tiny, [[tiny.turn(1)]])
    attention = find_decoder(tiny.model).layers[1].self_attn
    attention.config = type(attention.config).from_dict(attention.config.to_dict())
    attention.config._attn_implementation = "sdpa"
    with pytest.raises(UnreadMemoryError), torch.no_grad():
        tiny.model(**tiny.inputs([tiny.turn(2)]), past_key_values=memory.fork())


def test_attach_is_idempotent_and_leaves_the_vision_tower() -> None:
    tiny = tiny_or_skip("qwen2_vl")
    vision = tiny.model.config.vision_config._attn_implementation
    attach(tiny.model)
    attach(tiny.model)
    decoder = find_decoder(tiny.model)
    assert len(decoder._forward_pre_hooks) == len(decoder._forward_hooks) == 1
    assert tiny.model.config.vision_config._attn_implementation == vision != "tasm"
    detach(tiny.model)
    assert not decoder._forward_pre_hooks and decoder.config._attn_implementation == "sdpa"


def test_an_attached_model_with_a_stock_cache_is_the_stock_model() -> None:
    tiny = tiny_or_skip("gemma3")
    batch = tiny.batch([tiny.turn(1), tiny.turn(2, 9)])
    with torch.no_grad():
        expected = tiny.model(**batch).logits
        attach(tiny.model)
        logits = tiny.model(**batch).logits
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(logits[real], expected[real], atol=1e-5, rtol=0)


def test_the_decoder_may_get_its_cache_by_position() -> None:
    tiny = tiny_or_skip("llama")
    memory, ids = encode(tiny, [[tiny.turn(1)]]), tiny.inputs([tiny.turn(2)])["input_ids"]
    decoder = find_decoder(tiny.model)
    with torch.no_grad():
        expected = decoder(input_ids=ids, past_key_values=memory.fork()).last_hidden_state
        given = decoder(ids, None, None, memory.fork()).last_hidden_state
    assert torch.equal(given, expected)


def test_models_without_a_decoder_are_refused() -> None:
    with pytest.raises(ModelError, match=r"Linear has no text decoder.*get_decoder"):
        attach(torch.nn.Linear(2, 2))


def test_wrong_number_of_layers_is_refused() -> None:
    tiny = tiny_or_skip("llama")
    with pytest.raises(InputError, match="segments has 1 entries but the model has 3 layers"):
        MemoryCache.from_segments(tiny.model.config, [None], next_position=0, logical_length=0)


def test_layers_that_cannot_have_a_memory_are_refused() -> None:
    tiny = tiny_or_skip("llama")
    tiny.model.config.layer_types = ["full_attention", "chunked_attention", "full_attention"]
    with pytest.raises(ModelError, match="chunked_attention"):
        MemoryCache.empty(tiny.model.config)
