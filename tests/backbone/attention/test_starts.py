"""Rows of different memories in one forward pass: each row's own answer."""

from dataclasses import replace

import pytest
import torch

from tasm.backbone import UNUSED, MemoryCache, Segment
from tasm.backbone.attention.starts import Starts
from tasm.errors import InputError
from tests.backbone.attention.exactness import encode, generate, tiny_or_skip
from tests.tiny_models import Tiny

FAMILIES = ("llama", "gemma3", "qwen2_vl", "gemma2")


def side_by_side(tiny: Tiny, memories: list[MemoryCache]) -> MemoryCache:
    """One cache with a row for each memory: all segments, each switched off for the others."""
    layers: list[list[Segment] | None] = []
    for number in range(len(memories[0].segments)):
        beside = []
        for row, memory in enumerate(memories):
            for segment in memory.segments[number] or ():
                bias = torch.full((len(memories), 1, segment.tokens), UNUSED)
                bias[row] = 0
                beside.append(replace(segment, bias=bias))
        layers.append(beside)
    return MemoryCache.from_segments(
        tiny.model.config,
        layers,
        next_position=[memory.next_position for memory in memories],
        logical_length=[memory.logical_length for memory in memories],
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_two_memories_answer_as_each_alone(family: str) -> None:
    tiny = tiny_or_skip(family)
    memories = [
        encode(tiny, [[tiny.turn(1)], [tiny.turn(2)], [tiny.turn(3)]]),
        encode(tiny, [[tiny.turn(4)]]),
    ]
    starts = [memory.next_position for memory in memories]
    assert starts[0] > starts[1]
    queries = [tiny.turn(5), tiny.turn(6)]
    alone = [
        generate(tiny, memory.fork(), tiny.batch([query]))
        for memory, query in zip(memories, queries, strict=True)
    ]
    both = side_by_side(tiny, memories)
    for session in (both, both.fork()):
        tokens, logits = generate(tiny, session, tiny.batch(queries))
        for row, (expected_tokens, expected) in enumerate(alone):
            assert torch.equal(tokens[row], expected_tokens[0])
            torch.testing.assert_close(logits[row], expected[0], atol=2e-5, rtol=0)
    # Both read from one place, the rows would stand elsewhere: the test can tell.
    same = MemoryCache.from_segments(
        tiny.model.config,
        both.segments,
        next_position=starts[0],
        logical_length=memories[0].logical_length,
    )
    _, wrong = generate(tiny, same, tiny.batch(queries))
    assert (wrong[1] - alone[1][1][0]).abs().max() > 1e-3


def test_starts_follow_their_rows() -> None:
    tiny = tiny_or_skip("llama")
    memories = [encode(tiny, [[tiny.turn(1)], [tiny.turn(2)]]), encode(tiny, [[tiny.turn(4)]])]
    query = tiny.turn(5)
    alone = [generate(tiny, memory.fork(), tiny.batch([query]))[1][0] for memory in memories]
    both = side_by_side(tiny, memories)
    both.reorder_cache(torch.tensor([1, 0]))
    both.batch_repeat_interleave(2)
    both.batch_select_indices(torch.tensor([0, 2, 3]))
    _, logits = generate(tiny, both, tiny.batch([query] * 3))
    for row, expected in enumerate([alone[1], alone[0], alone[0]]):
        torch.testing.assert_close(logits[row], expected, atol=2e-5, rtol=0)
    both.reset()
    with pytest.raises(InputError, match="memories of 3 rows, and the call has 2 rows"):
        generate(tiny, both, tiny.batch([query] * 2))


def test_starts_that_do_not_fit_one_another() -> None:
    with pytest.raises(InputError, match="next_position has 2 rows and logical_length 3"):
        Starts.of([1, 2], [1, 2, 3])
    assert Starts.of([4, 4], 5) == Starts((4, 4), (5, 5))
