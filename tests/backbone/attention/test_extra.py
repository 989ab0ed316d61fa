"""Retrieval inside the attention call: what it is asked, what it brings, how it follows rows."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from tasm.backbone import UNUSED, MemoryCache, Segment
from tasm.backbone.attention.segment import Weight
from tasm.errors import InputError
from tests.backbone.attention.exactness import encode, generate, stock, tiny_or_skip
from tests.tiny_models import Tiny, Turn


@dataclass
class Withheld:
    """Brings a whole memory's segments at every call: the same as having them in the core."""

    segments: list[tuple[Segment, ...]]
    chunkable: bool = False
    asked: list[tuple[int, Tensor, float]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    rows: Tensor | None = None

    def __call__(
        self, layer: int, query: Tensor, scaling: float, weight: Weight | None = None
    ) -> Segment | None:
        self.asked.append((layer, query, scaling))
        if self.rows is None:
            self.rows = torch.arange(query.shape[0])
        (segment,) = self.segments[layer]
        keys, values = (
            t.expand(len(self.rows), -1, -1, -1) for t in (segment.keys, segment.values)
        )
        return Segment(keys, values)

    def map_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        self.events.append("rows")
        self.rows = change(self.rows)

    def reset(self) -> None:
        self.events.append("reset")
        self.rows = None

    def fork(self) -> "Withheld":
        return Withheld(self.segments, self.chunkable)


def split(tiny: Tiny, turns: list[Turn], chunkable: bool = False) -> tuple[MemoryCache, Withheld]:
    """A cache whose second turn is brought by `extra` instead of lying in the memory."""
    whole = encode(tiny, [turns])
    length = len(turns[0].ids)
    kept, held = [], []
    for (segment,) in whole.segments:
        kept.append((Segment(segment.keys[:, :, :length], segment.values[:, :, :length]),))
        held.append((Segment(segment.keys[:, :, length:], segment.values[:, :, length:]),))
    extra = Withheld(held, chunkable)
    cache = MemoryCache.from_segments(
        tiny.model.config,
        kept,
        next_position=whole.next_position,
        logical_length=whole.logical_length,
        extra=extra,
    )
    return cache, extra


def test_what_extra_brings_is_attended_at_every_step() -> None:
    tiny = tiny_or_skip("qwen2_vl")
    turns, queries = [tiny.turn(1), tiny.turn(2)], [tiny.turn(3), tiny.turn(4, 10)]
    cache, extra = split(tiny, turns)
    tokens, logits = generate(tiny, cache, tiny.batch(queries))
    assert len(extra.asked) == 3 * logits.shape[1]
    for row, query in enumerate(queries):
        expected = stock(tiny, [*turns, query], tokens[row, :-1].tolist())
        torch.testing.assert_close(logits[row], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("padded", ["left", "right"])
def test_it_is_asked_with_the_last_real_query(padded: str) -> None:
    tiny = tiny_or_skip("llama")
    cache, extra = split(tiny, [tiny.turn(1), tiny.turn(2)])
    short, long = [5, 6, 7], [8, 9, 10, 11, 12]
    ids = torch.tensor([[0, 0, *short] if padded == "left" else [*short, 0, 0], long])
    with torch.no_grad():
        tiny.model(input_ids=ids, attention_mask=(ids != 0).long(), past_key_values=cache)
    together = {layer: query for layer, query, _ in extra.asked}
    for row, tokens in enumerate((short, long)):
        alone, other = split(tiny, [tiny.turn(1), tiny.turn(2)])
        with torch.no_grad():
            tiny.model(input_ids=torch.tensor([tokens]), past_key_values=alone)
        for layer, query, scaling in other.asked:
            assert query.shape == (1, 2, 2, 16) and scaling == pytest.approx(16**-0.5)
            torch.testing.assert_close(together[layer][row], query[0], atol=1e-5, rtol=0)


def test_its_rows_follow_the_cache() -> None:
    tiny = tiny_or_skip("llama")
    cache, extra = split(tiny, [tiny.turn(1), tiny.turn(2)])
    with torch.no_grad():
        tiny.model(**tiny.batch([tiny.turn(3), tiny.turn(4)]), past_key_values=cache)
    cache.batch_repeat_interleave(2)
    cache.reorder_cache(torch.tensor([3, 0, 1, 2]))
    cache.batch_select_indices(torch.tensor([0, 1]))
    assert extra.rows is not None and extra.rows.tolist() == [1, 0]
    cache.reset()
    assert extra.events == ["rows", "rows", "rows", "reset"]


def test_beams_with_extra_equal_beams_with_the_whole_memory() -> None:
    tiny = tiny_or_skip("qwen2_vl")
    turns, query = [tiny.turn(1), tiny.turn(2)], tiny.batch([tiny.turn(3), tiny.turn(4, 9)])
    cache, extra = split(tiny, turns)
    mine, _ = generate(tiny, cache, query, num_beams=3)
    whole, _ = generate(tiny, encode(tiny, [turns]), query, num_beams=3)
    assert mine.tolist() == whole.tolist()
    assert "rows" in extra.events


def test_fork_starts_fresh() -> None:
    tiny = tiny_or_skip("llama")
    cache, extra = split(tiny, [tiny.turn(1), tiny.turn(2)])
    fork = cache.fork()
    assert fork.extra is not extra and fork.extra.events == ["reset"]


def test_reading_in_several_calls_and_cropping_are_refused() -> None:
    tiny = tiny_or_skip("llama")
    cache, _ = split(tiny, [tiny.turn(1), tiny.turn(2)])
    with torch.no_grad():
        tiny.model(input_ids=torch.tensor([[5, 6, 7]]), past_key_values=cache)
        tiny.model(input_ids=torch.tensor([[8]]), past_key_values=cache)
        with pytest.raises(InputError, match=r"several calls.*gate='never'"):
            tiny.model(input_ids=torch.tensor([[9, 10]]), past_key_values=cache)
    with pytest.raises(InputError, match=r"cannot be cropped.*gate='never'"):
        cache.crop(-1)
    assert not cache.is_croppable
    cache.reset()
    with pytest.raises(InputError):
        tiny.model.generate(
            torch.tensor([[5, 6, 7, 5, 6]]), past_key_values=cache, prompt_lookup_num_tokens=2,
            max_new_tokens=6, eos_token_id=199,
        )  # fmt: skip


def test_a_chunkable_extra_refuses_nothing() -> None:
    tiny = tiny_or_skip("llama")
    turns, query = [tiny.turn(1), tiny.turn(2)], [5, 6, 7, 8]
    cache, _ = split(tiny, turns, chunkable=True)
    with torch.no_grad():
        tiny.model(input_ids=torch.tensor([query[:2]]), past_key_values=cache)
        tiny.model(input_ids=torch.tensor([[30, 31]]), past_key_values=cache)
        cache.crop(-2)
        logits = tiny.model(input_ids=torch.tensor([query[2:]]), past_key_values=cache).logits
    expected = stock(tiny, [*turns, Turn(query)])[0]
    torch.testing.assert_close(logits[0, -1], expected, atol=1e-5, rtol=0)


def test_extra_that_brings_nothing_changes_nothing() -> None:
    tiny = tiny_or_skip("llama")
    cache, extra = split(tiny, [tiny.turn(1), tiny.turn(2)])
    query = tiny.inputs([tiny.turn(3)])
    without = MemoryCache.from_segments(
        tiny.model.config,
        cache.segments,
        next_position=cache.next_position,
        logical_length=cache.logical_length,
    )
    extra.segments = [
        (Segment(s.keys, s.values, torch.full(s.keys.shape[:3], UNUSED)),)
        for (s,) in extra.segments
    ]

    def shut(layer: int, query: Tensor, scaling: float, weight: Weight | None) -> Segment:
        (segment,) = extra.segments[layer]
        return segment

    with torch.no_grad():
        expected = tiny.model(**query, past_key_values=without).logits
        extra.__class__ = type("Shut", (Withheld,), {"__call__": lambda self, *a: shut(*a)})
        logits = tiny.model(**query, past_key_values=cache).logits
    assert torch.equal(logits, expected)
