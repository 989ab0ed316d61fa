"""Sessions over one memory: positions, sharing, rows, crop, reset, refusals."""

import pytest
import torch

from tasm.backbone import MemoryCache, attach
from tasm.errors import InputError
from tests.backbone.attention.exactness import encode, generate, stock, tiny_or_skip

pytestmark = pytest.mark.matrix


def logits_of(tiny, cache, **inputs):
    with torch.no_grad():
        return tiny.model(**inputs, past_key_values=cache).logits


@pytest.mark.parametrize("family", ["qwen2_vl", "llava"])
def test_commit_records_positions_and_lengths(family: str) -> None:
    tiny = tiny_or_skip(family)
    turns = [tiny.turn(1), tiny.turn(2), tiny.turn(3)]
    chunked = encode(tiny, [[turn] for turn in turns])
    joint = encode(tiny, [turns])
    whole = tiny.inputs(turns)
    assert chunked.logical_length == joint.logical_length == whole["input_ids"].shape[1]
    assert torch.equal(chunked.positions, joint.positions)
    assert chunked.next_position == joint.next_position == int(joint.positions.max()) + 1
    if family == "llava":
        assert torch.equal(joint.positions, torch.arange(joint.logical_length)[None])
    else:
        # 6 words, then the image's tag: the image itself starts at 7 and is 2 x 3 places large.
        assert joint.positions.shape[0] == 3
        assert joint.positions[:, 7:13].tolist() == [
            [7, 7, 7, 7, 7, 7], [7, 7, 7, 8, 8, 8], [7, 8, 9, 7, 8, 9],
        ]  # fmt: skip
        assert joint.positions[:, 13].tolist() == [10, 10, 10]


def test_commit_after_decoding_records_decoded_positions() -> None:
    tiny = tiny_or_skip("qwen2_vl")
    cache = encode(tiny, [[tiny.turn(1)]])
    start, length = cache.next_position, cache.logical_length
    logits_of(tiny, cache, **tiny.inputs([tiny.turn(2)]))
    for token in (5, 6, 7):
        logits_of(tiny, cache, input_ids=torch.tensor([[token]]))
    live = cache.get_seq_length()
    cache.commit()
    assert cache.logical_length == length + live and cache.get_seq_length() == 0
    last = cache.positions[:, -3:]
    assert (last[:, 1:] - last[:, :-1] == 1).all() and int(last[0, -1]) + 1 == cache.next_position
    assert cache.next_position > start


def test_many_chunks_make_few_segments() -> None:
    tiny = tiny_or_skip("llama")
    turns = [tiny.turn(seed) for seed in range(21)]
    cache = encode(tiny, [[turn] for turn in turns])
    for segments in cache.segments:
        assert len(segments) <= 5
        assert sum(segment.tokens for segment in segments) == cache.logical_length
        order = torch.cat([segment.index for segment in segments], 1)
        assert torch.equal(order, torch.arange(cache.logical_length)[None])


def test_sliding_layers_keep_what_can_still_be_seen() -> None:
    tiny = tiny_or_skip("gemma3")
    cache = encode(tiny, [[tiny.turn(seed)] for seed in range(4)])
    for kind, segments in zip(
        tiny.model.config.text_config.layer_types, cache.segments, strict=True
    ):
        index = torch.cat([segment.index for segment in segments], 1)[0]
        first = cache.logical_length - 23 if kind == "sliding_attention" else 0
        assert torch.equal(index, torch.arange(first, cache.logical_length))


def test_forks_share_segments_and_never_write_them() -> None:
    tiny = tiny_or_skip("qwen2_vl")
    memory = encode(tiny, [[tiny.turn(1)], [tiny.turn(2)]])
    before = [[(s, s.keys.clone(), s.values.clone()) for s in layer] for layer in memory.segments]
    first, second = memory.fork(), memory.fork()
    alone, _ = generate(tiny, memory.fork(), tiny.batch([tiny.turn(4)]))
    generate(tiny, first, tiny.batch([tiny.turn(3)]), num_beams=3)
    after, _ = generate(tiny, second, tiny.batch([tiny.turn(4)]))
    first.reset()
    assert torch.equal(alone, after)
    for layer, saved in zip(second.segments, before, strict=True):
        for segment, (same, keys, values) in zip(layer, saved, strict=True):
            assert segment is same
            assert torch.equal(segment.keys, keys) and torch.equal(segment.values, values)


def test_hybrid_forks_do_not_share_a_written_state() -> None:
    tiny = tiny_or_skip("qwen3_5")
    memory = encode(tiny, [[tiny.turn(1)], [tiny.turn(2)]])
    before = [None if s is None else {k: v.clone() for k, v in s.items()} for s in memory.states]
    query = tiny.batch([tiny.turn(4)])
    session = memory.fork()
    first, _ = generate(tiny, session, query)
    session.reset()
    again, _ = generate(tiny, session, query)
    assert torch.equal(first, again)
    for state, saved in zip(memory.states, before, strict=True):
        assert (state is None) == (saved is None)
        for name in saved or {}:
            assert torch.equal(state[name], saved[name])
    with pytest.raises(InputError, match="padded batch"):
        generate(tiny, memory.fork(), tiny.batch([tiny.turn(4), tiny.turn(5, 9)]))


@pytest.mark.parametrize("family", ["qwen2_vl", "gemma3"])
def test_crop_and_reset(family: str) -> None:
    tiny = tiny_or_skip(family)
    memory, query = encode(tiny, [[tiny.turn(1)]]), tiny.inputs([tiny.turn(2)])
    session = memory.fork()
    logits_of(tiny, session, **query)
    expected = logits_of(tiny, session, input_ids=torch.tensor([[7, 8]]))
    session.crop(-2)
    logits_of(tiny, session, input_ids=torch.tensor([[30, 31, 32]]))
    session.crop(-3)
    again = logits_of(tiny, session, input_ids=torch.tensor([[7, 8]]))
    torch.testing.assert_close(again, expected, atol=1e-6, rtol=0)
    session.reset()
    assert session.get_seq_length() == 0
    first = logits_of(tiny, memory.fork(), **query)
    torch.testing.assert_close(logits_of(tiny, session, **query), first, atol=1e-6, rtol=0)


def test_crop_into_the_first_call() -> None:
    tiny = tiny_or_skip("qwen2_vl")
    memory, query = encode(tiny, [[tiny.turn(1)]]), tiny.turn(2)
    session = memory.fork()
    logits_of(tiny, session, **tiny.inputs([query]))
    session.crop(-2)
    again = logits_of(tiny, session, input_ids=torch.tensor([query.ids[-2:]]))
    expected = logits_of(tiny, memory.fork(), **tiny.inputs([query]))
    torch.testing.assert_close(again, expected[:, -2:], atol=1e-6, rtol=0)


def test_rows_repeat_select_and_reorder() -> None:
    tiny = tiny_or_skip("qwen2_vl")
    memory = encode(tiny, [[tiny.turn(1)]])
    queries = tiny.batch([tiny.turn(2), tiny.turn(3, 9)])
    session = memory.fork()
    logits_of(tiny, session, **queries)
    session.batch_repeat_interleave(2)  # rows 0 0 1 1
    session.reorder_cache(torch.tensor([2, 1, 0, 3]))  # rows 1 0 0 1
    session.batch_select_indices(torch.tensor([0, 1]))  # rows 1 0
    mask = torch.cat([queries["attention_mask"].flip(0), torch.ones(2, 1, dtype=torch.long)], 1)
    moved = logits_of(tiny, session, input_ids=torch.tensor([[5], [6]]), attention_mask=mask)
    straight = memory.fork()
    logits_of(tiny, straight, **queries)
    expected = logits_of(
        tiny, straight, input_ids=torch.tensor([[6], [5]]), attention_mask=mask.flip(0)
    )
    torch.testing.assert_close(moved, expected.flip(0), atol=1e-5, rtol=0)


def test_a_wrong_number_of_rows_is_refused() -> None:
    tiny = tiny_or_skip("llama")
    session = encode(tiny, [[tiny.turn(1)]]).fork()
    logits_of(tiny, session, **tiny.inputs([tiny.turn(2)]))
    with pytest.raises(InputError, match="holds 1 rows of live tokens but was given 2"):
        logits_of(tiny, session, input_ids=torch.tensor([[5], [6]]))


def test_commit_refuses_rows_and_padding() -> None:
    tiny = tiny_or_skip("llama")
    attach(tiny.model)
    cache = MemoryCache.empty(tiny.model.config)
    logits_of(tiny, cache, **tiny.batch([tiny.turn(1), tiny.turn(2)]))
    with pytest.raises(InputError, match="takes one row"):
        cache.commit()
    cache.reset()
    padded = tiny.batch([tiny.turn(1), tiny.turn(2, 9)])
    logits_of(tiny, cache, **{name: tensor[:1] for name, tensor in padded.items()})
    with pytest.raises(InputError, match="without padding"):
        cache.commit()


def test_a_mask_over_the_memory_is_refused_or_harmless() -> None:
    tiny = tiny_or_skip("llama")
    session = encode(tiny, [[tiny.turn(1)]]).fork()
    with pytest.raises(InputError, match="mask of the live tokens"):
        logits_of(
            tiny, session, input_ids=torch.tensor([[5, 6, 7]]), attention_mask=torch.ones(1, 2)
        )


def test_positions_of_a_later_call_are_those_of_its_tokens() -> None:
    """What is passed for text beside a memory is not believed: generate() itself passes some that
    count the live tokens alone. Positions of pictures are in test_later_pictures.py."""
    tiny = tiny_or_skip("qwen2_vl")
    memory = encode(tiny, [[tiny.turn(1)]])
    places = torch.tensor([[[3, 3, 4]]]).expand(3, -1, -1)
    later = torch.tensor([[8, 9, 10]])
    found = []
    for given in ({}, {"position_ids": places}):
        session = memory.fork()
        logits_of(tiny, session, input_ids=torch.tensor([[5, 6, 7]]))
        found.append(logits_of(tiny, session, input_ids=later, **given))
    assert torch.equal(*found)


def test_the_memory_must_fit_one_stock_forward_with_segments_by_hand() -> None:
    """from_segments takes what another cache committed."""
    tiny = tiny_or_skip("qwen2_vl")
    demonstration, query = tiny.turn(1), tiny.turn(2)
    made = encode(tiny, [[demonstration]])
    cache = MemoryCache.from_segments(
        tiny.model.config,
        made.segments,
        next_position=made.next_position,
        logical_length=made.logical_length,
    )
    logits = logits_of(tiny, cache, **tiny.inputs([query]))[0, -1]
    expected = stock(tiny, [demonstration, query])[0]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen2_vl"])
def test_room_for_all_tokens_keeps_what_joining_keeps(family: str) -> None:
    tiny = tiny_or_skip(family)
    attach(tiny.model)
    turns = [tiny.turn(1), tiny.turn(2, 9), tiny.turn(3)]
    room = sum(len(turn.ids) for turn in turns)
    grown, whole = (MemoryCache.empty(tiny.model.config, room=one) for one in (None, room))
    for turn in turns:
        for cache in (grown, whole):
            logits_of(tiny, cache, **tiny.inputs([turn]))
            cache.commit()
    for layer, (some, one) in enumerate(zip(grown.segments, whole.segments, strict=True)):
        assert some is not None and one is not None
        for name, dimension in (("keys", 2), ("values", 2), ("index", 1)):
            parts = [torch.cat([getattr(s, name) for s in side], dimension) for side in (some, one)]
            torch.testing.assert_close(parts[1], parts[0], rtol=1e-5, atol=1e-5)
        if whole.layers[layer].window is None:  # type: ignore[union-attr]
            (segment,) = one
            assert segment.tokens == room and segment.keys.is_contiguous()
            assert whole.layers[layer]._buffers is None  # type: ignore[union-attr]
    query = tiny.inputs([tiny.turn(4)])
    ours, theirs = (logits_of(tiny, cache.fork(), **query) for cache in (whole, grown))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_more_than_there_is_room_for_is_refused() -> None:
    tiny = tiny_or_skip("llama")
    attach(tiny.model)
    cache = MemoryCache.empty(tiny.model.config, room=3)
    logits_of(tiny, cache, **tiny.inputs([tiny.turn(1)]))
    with pytest.raises(InputError, match="room for 3 tokens"):
        cache.commit()
