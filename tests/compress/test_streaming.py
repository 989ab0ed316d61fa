"""Streaming builds: memory that is bounded, everything kept when there is room, appended chunks."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from tasm.backbone.attention.cache import MemoryCache
from tasm.compress.recipes.recipe import Part
from tasm.compress.recipes.table import find_recipe
from tests.compress.tiny_backbone import build_tiny, tiny_backbone

EVEN = "tasm-even-layers"  # the same number of tokens in every layer


def test_reads_against_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone()
    seen: list[tuple[int, int, int]] = []
    encode = type(backbone).encode

    def listen(self: Any, chunk: Any, cache: MemoryCache) -> None:
        held = sum(segment.tokens for segment in cache.segments[1] or ())
        seen.append((len(chunk), held, cache.logical_length))
        encode(self, chunk, cache)

    monkeypatch.setattr(type(backbone), "encode", listen)
    given = {"core": "25", "bank": "10", "mode": "streaming", "chunk_tokens": 40}
    memory = build_tiny(backbone, 8, recipe=EVEN, **given)
    assert len(seen) > 3
    before = 0
    for length, held, logical in seen:
        assert held == min(before, 25)
        assert logical == before
        before += length
    assert memory.logical_length == before
    assert memory.bank is not None
    core = memory.core[2]
    bank = memory.bank.layers[2]
    assert core is not None and bank is not None
    for head in range(2):
        kept = set(core.index[head].tolist())
        banked = set(bank.held().index[head].tolist())
        assert len(kept) == 25 and len(banked) == 10
        assert not kept & banked
        assert core.index[head].tolist() == sorted(kept)


def test_positions_go_on_as_if_nothing_were_dropped() -> None:
    backbone = tiny_backbone()
    joint = build_tiny(backbone, 6)
    streamed = build_tiny(backbone, 6, mode="streaming", chunk_tokens=40)
    assert streamed.next_position == joint.next_position
    assert torch.equal(streamed.tokens.positions, joint.tokens.positions)


@pytest.mark.parametrize("family", ["gemma2", "qwen3_5"])
def test_layers_that_do_not_compete_are_kept_whole(family: str) -> None:
    backbone = tiny_backbone(family)
    transcript = backbone.transcript(range(1, 7))
    for mode in ("joint", "streaming"):
        given = {"core": "20", "mode": mode, "chunk_tokens": 30}
        memory = build_tiny(backbone, transcript, recipe=EVEN, **given)
        window = backbone.geometry.sliding_window
        for number, kind in enumerate(backbone.geometry.layer_kinds):
            layer = memory.core[number]
            if kind == "full":
                assert layer is not None and layer.counts == (20, 20)
            elif kind == "sliding":
                assert layer is not None and window is not None
                last = list(range(len(transcript) - window + 1, len(transcript)))
                assert layer.index.tolist() == [last, last]
            else:
                assert layer is None
                assert memory.states[number]


@pytest.mark.parametrize("chunk", [40, 60])
def test_appending_never_touches_earlier_chunks(chunk: int) -> None:
    backbone = tiny_backbone()
    transcript = backbone.transcript(range(1, 9))
    recipe = replace(find_recipe(EVEN), streaming="append", bank="0")
    given = {"recipe": recipe, "mode": "streaming", "chunk_tokens": chunk, "core": "40"}
    whole = build_tiny(backbone, transcript, **given)
    share = 40 * transcript.spans[1][1] // len(transcript)
    first = build_tiny(backbone, transcript.chunk(0, 2), **(given | {"core": str(share)}))
    if chunk == 40:
        early, late = first.core[0], whole.core[0]
        assert early is not None and late is not None
        assert late.counts == (40, 40)
        torch.testing.assert_close(late.keys[:, :share], early.keys)
    assert whole.report["core_tokens"] == 40


def test_a_ragged_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone()
    recipe = replace(find_recipe("tasm"), budget=Part("tests.compress.outside:Uneven"), others=())
    for streaming in ("recompress", "append"):
        for mode in ("joint", "streaming"):
            one = replace(recipe, streaming=streaming)  # type: ignore[arg-type]
            memory = build_tiny(
                backbone, 8, recipe=one, core="30", bank="9", mode=mode, chunk_tokens=60
            )
            for layer in memory.core:
                assert layer is not None
                few, many = layer.counts
                assert few < many and few + many <= 60
                for head, count in enumerate(layer.counts):
                    index = layer.index[head, :count].tolist()
                    assert index == sorted(set(index))
            memory.cache()
