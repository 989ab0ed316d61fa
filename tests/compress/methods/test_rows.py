"""Reference rows that are left out or weigh little, and attention as a part of the memory's."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tasm.backbone.attention.attention_call import AttentionCall
from tasm.backbone.attention.segment import Segment
from tasm.backbone.prompt.transcript import Role
from tasm.compress.parts.base import Parts
from tasm.compress.recipes.table import find_recipe
from tasm.compress.records.received import AttentionReceived
from tasm.compress.records.references import Asked, References
from tasm.compress.records.row_rules import Rows
from tests.compress.methods.capture import stock_attention, stock_model
from tests.compress.test_replay import layers_of, replay_of
from tests.compress.tiny_backbone import build_tiny, tiny_backbone

HEADS, GROUP, ROWS, TOKENS, WIDTH = 2, 3, 20, 12, 4


def drawn(rows: int = ROWS) -> tuple[Asked, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Random rows and tokens; what is not the memory gets a fifth of the weights."""
    draw = torch.Generator().manual_seed(3)
    queries = torch.randn(HEADS, GROUP, rows, WIDTH, generator=draw)
    keys = torch.randn(HEADS, TOKENS, WIDTH, generator=draw)
    values = torch.randn(HEADS, TOKENS, WIDTH, generator=draw)
    weights = (queries @ keys[:, None].transpose(2, 3)).exp().sum(-1)
    asked = Asked(
        queries=queries,
        log_sum_exp=(weights / 0.8).log(),
        rest=torch.full((HEADS, GROUP, rows), 0.2),
        live=0.2 * torch.randn(HEADS, GROUP, rows, WIDTH, generator=draw),
        before=torch.full((rows,), TOKENS),
        scale=torch.ones(rows),
        demonstration=torch.arange(rows) // 5,
        scaling=1.0,
    )
    return asked, (keys, values, torch.arange(TOKENS).expand(HEADS, -1))


def test_rows_are_left_out_by_their_demonstration() -> None:
    asked, (keys, _, index) = drawn()
    rest = References().without(asked, [1, 3])
    assert rest.demonstration.tolist() == [0] * 5 + [2] * 5
    some = [*range(5), *range(10, 15)]
    torch.testing.assert_close(rest.weights(keys, index), asked.weights(keys, index)[:, :, some])
    assert torch.equal(rest.live, asked.live[:, :, some])


def test_attention_as_a_part_of_what_the_memory_gets() -> None:
    """The largest share of the memory's attention, in the last layer of rows that say answers."""
    backbone, model = tiny_backbone(), stock_model()
    seeds = [1, 2]
    (record, _) = [
        one
        for one in Parts.of(find_recipe("compact")).scorer.replayed
        if isinstance(one, AttentionReceived)
    ]
    assert (record.among, record.last_rows) == ("memory", "predictions")
    memory = build_tiny(backbone, backbone.transcript(seeds), recipe="full")
    transcript = backbone.transcript(seeds)
    read = replay_of(backbone, transcript, memory).read(layers_of(memory), (record,))
    size, last = len(transcript), backbone.geometry.layers - 1
    for layer in (0, last):
        best = torch.zeros(backbone.geometry.kv_heads, size)
        for number, seed in enumerate(seeds):
            attention = stock_attention(backbone, model, seeds, again=seed)[layer, :, size:, :size]
            start, stop = transcript.spans[number]
            answers = transcript.roles[start:stop] == 4
            rows = torch.arange(stop - start)
            if layer == last:
                rows = rows[:-1][answers[1:]]
            shares = attention[:, rows] / attention[:, rows].sum(-1, keepdim=True)
            by_head = shares.float().unflatten(0, (backbone.geometry.kv_heads, -1))
            best = torch.maximum(best, by_head.amax((1, 2)))
        found = read.held[layer][record].mass
        torch.testing.assert_close(found, best.float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("takes_batches", [True, False])
def test_a_recorded_output_is_what_the_weights_give(
    takes_batches: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of demonstrations read again, whether together or one by one."""
    monkeypatch.setattr(References, "takes_batches", takes_batches)
    backbone = tiny_backbone()
    transcript = backbone.transcript([1, 3, 2])
    memory = build_tiny(backbone, transcript, recipe="full")
    record, unread = References(), References(outputs=False)
    replay = replace(replay_of(backbone, transcript, memory), chunk=len(transcript))
    read = replay.read(layers_of(memory), (record, unread))
    for layer, held in layers_of(memory).items():
        asked: Asked = read.held[layer][record]
        assert asked.recorded is not None and asked.rows > 3
        assert read.held[layer][unread].recorded is None
        given = (held.keys, held.index.long(), held.values)
        without = record.keep(asked, held.index)
        assert without.recorded is None
        torch.testing.assert_close(
            asked.output(*given), without.output(*given), atol=1e-5, rtol=1e-4
        )


def test_what_is_not_the_memory_is_summed_and_not_what_is_left_of_one() -> None:
    """A row may give its own demonstration a millionth: one less the rest is rounding then."""
    tiny = 1e-9
    # One row over a memory token and itself: the logits of both are 0, the memory's has a bias.
    nothing, bias = torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1), -math.log(tiny))
    memory = Segment(nothing, nothing, bias)
    call = AttentionCall(
        layer=0,
        module=nn.Identity(),
        query=torch.zeros(1, 1, 1, 2),
        key=torch.zeros(1, 1, 1, 2),
        value=torch.ones(1, 1, 1, 2),
        mask=None,
        segments=(memory,),
        log_sum_exp=torch.full((1, 1, 1), math.log(1 + 1 / tiny)),
        scaling=1.0,
        softcap=None,
        index=None,
        sliding_window=None,
    )
    reading = SimpleNamespace(
        call=call,
        new=1,
        hidden=torch.ones(1, 2),
        is_last=False,
        rows=Rows(
            roles=torch.tensor([int(Role.QUESTION)], dtype=torch.uint8),
            demonstration=torch.zeros(1, dtype=torch.long),
            answer_numbers=torch.zeros(1, dtype=torch.long),
            first=1,
            stage_end=2,
            chunk=1,
        ),
    )
    found = References().observe(None, reading)  # type: ignore[arg-type]
    assert float(found.rest[0, 0, 0]) == pytest.approx(tiny)
    torch.testing.assert_close(found.live[0, 0, 0] / found.rest[0, 0, 0], torch.ones(2))
