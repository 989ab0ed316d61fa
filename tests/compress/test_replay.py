"""Reading demonstrations again: against the stock model, and resumed against read anew."""

from dataclasses import fields, replace
from functools import reduce
from typing import Any

import pytest
import torch

from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.head import Head
from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.records.received import AttentionReceived, Received
from tasm.compress.records.record import Record
from tasm.compress.records.references import References
from tasm.compress.replay import Replay, alone
from tasm.errors import ModelError
from tasm.memory import LayerTokens, TaskMemory
from tests.compress.tiny_backbone import TinyBackbone, build_tiny, tiny_backbone


def replay_of(backbone: TinyBackbone, transcript: Transcript, memory: TaskMemory) -> Replay:
    layers = backbone.geometry.layers
    return Replay(
        backbone,
        tuple(alone(transcript, number) for number in range(len(transcript.spans))),
        (None,) * layers,
        (None,) * layers,
        memory.next_position,
        memory.logical_length,
    )


def layers_of(memory: TaskMemory) -> dict[int, LayerTokens]:
    return {number: layer for number, layer in enumerate(memory.core) if layer is not None}


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "llava", "gemma2", "cohere", "granite"])
def test_predictions_are_those_of_the_stock_model(family: str) -> None:
    backbone = tiny_backbone(family)
    transcript = backbone.transcript([1, 2])
    memory = build_tiny(backbone, transcript, recipe="full")
    replay = replay_of(backbone, transcript, memory)
    read = replay.read(layers_of(memory))
    second = alone(transcript, 1)
    images = {
        name: torch.cat([packed.values, second.images.tensors[name].values])
        for name, packed in transcript.images.tensors.items()
    }
    whole = torch.cat([transcript.input_ids, second.input_ids])[None]
    with torch.no_grad():
        logits = backbone.hf(
            input_ids=whole, **images, **backbone.tiny._token_types(whole), use_cache=False
        ).logits[0, -len(second) :]
    if family == "gemma2":
        assert backbone.head == Head(1.0, 10.0)
    # The template token before the answer and the answer's first token say its two tokens.
    expected = logits[-4:-2].log_softmax(-1)
    torch.testing.assert_close(replay.log_probabilities(read.said[1]), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (0.0625, None), (-3.0, 10.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_is_measured(scale: float, cap: float | None, dtype: torch.dtype) -> None:
    product = (3 * torch.randn(2, 500, generator=torch.Generator().manual_seed(1))).to(dtype)
    said = (product * scale).double()
    said = (said if cap is None else cap * torch.tanh(said / cap)).to(dtype)
    head = Head.measured(product, said, cap)
    assert head.scale == pytest.approx(scale, rel=1e-5 if dtype == torch.float32 else 1e-2)
    torch.testing.assert_close(
        head.logits(product), said.float(), atol=0.1 if dtype == torch.bfloat16 else 1e-4, rtol=0
    )


def test_another_head_is_refused() -> None:
    product = torch.randn(2, 500, generator=torch.Generator().manual_seed(1))
    with pytest.raises(ModelError, match="cannot be read again"):
        Head.measured(product, product + product.roll(1), None)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "gemma2"])
def test_what_is_hidden_is_as_good_as_gone(family: str) -> None:
    backbone = tiny_backbone(family)
    transcript = backbone.transcript([1, 2, 3])
    memory = build_tiny(backbone, transcript, recipe="full")
    half = build_tiny(backbone, transcript, recipe="random", core="50%")
    replay = replay_of(backbone, transcript, memory)
    if family == "gemma2":
        sliding = backbone.geometry.layer_kinds.index("sliding")
        beside = [None] * backbone.geometry.layers
        for number, kind in enumerate(backbone.geometry.layer_kinds):
            if kind == "sliding":
                layer = memory.core[number]
                assert layer is not None
                beside[number] = (layer.segment(),)  # type: ignore[call-overload]
        assert beside[sliding] is not None
        replay = Replay(
            backbone,
            replay.demonstrations,
            tuple(beside),
            replay.states,
            memory.next_position,
            memory.logical_length,
        )
    competing = [n for n, kind in enumerate(backbone.geometry.layer_kinds) if kind == "full"]
    everything = {n: layer for n, layer in layers_of(memory).items() if n in competing}
    last = competing[-1]
    mixed = everything | {last: layers_of(half)[last]}
    teacher = replay.read(everything)
    kept = layers_of(half)[last].index.long()
    unseen = torch.ones(everything[last].index.shape, dtype=torch.bool).scatter(1, kept, False)
    hidden = replay.read(everything | {last: everything[last].hiding(unseen)})
    anew = replay.read(mixed)
    for mine, theirs, before in zip(hidden.said, anew.said, teacher.said, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
        assert (mine - before).abs().max() > 1e-3
    assert replay.divergence(teacher, hidden) > 1e-6
    assert replay.divergence(teacher, teacher) == pytest.approx(0, abs=1e-7)


def test_records_cover_the_memory_only() -> None:
    backbone = tiny_backbone()
    transcript = backbone.transcript([1, 2])
    memory = build_tiny(backbone, transcript, recipe="full")
    replay = replay_of(backbone, transcript, memory)
    record = AttentionReceived("answers")
    read = replay.read(layers_of(memory), (record,))
    received = read.held[1][record]
    assert received.mass.shape == (2, len(transcript))
    assert received.seen_by.unique().tolist() == [4.0]  # two demonstrations, two answer tokens each

    expected = torch.zeros(2, len(transcript))
    for number in range(2):
        cache = MemoryCache.from_segments(
            backbone.hf.config,
            [(layer.segment(),) for layer in layers_of(memory).values()],
            next_position=memory.next_position,
            logical_length=memory.logical_length,
        )
        chunk = alone(transcript, number)

        def sum_answers(call: object, chunk: Transcript = chunk) -> None:
            if call.layer == 1:  # type: ignore[attr-defined]
                rows = (chunk.roles == 4).nonzero()[:, 0]
                expected.add_(call.column_sums(rows)[0, :, : len(transcript)])  # type: ignore[attr-defined]

        cache.recorder = sum_answers
        backbone.encode(chunk, cache)
    torch.testing.assert_close(received.mass, expected)


@pytest.mark.parametrize("family", ["qwen2_vl", "gemma2"])
def test_read_together_as_one_by_one(family: str) -> None:
    backbone = tiny_backbone(family)
    transcript = backbone.transcript([1, 2, 3])
    memory = build_tiny(backbone, transcript, recipe="full")
    replay = replay_of(backbone, transcript, memory)
    if family == "gemma2":
        sliding = backbone.geometry.layer_kinds.index("sliding")
        beside = [None] * backbone.geometry.layers
        beside[sliding] = (layers_of(memory)[sliding].segment(),)
        replay = Replay(
            backbone,
            replay.demonstrations,
            beside,
            replay.states,
            replay.next_position,
            replay.logical_length,
        )
    full = [n for n, kind in enumerate(backbone.geometry.layer_kinds) if kind == "full"]
    layers = {number: layer for number, layer in layers_of(memory).items() if number in full}
    record = AttentionReceived("all", "max")
    together = replay.read(layers, (record,))
    one_by_one = replace(replay, at_once=1).read(layers, (record,))
    for first, second in zip(together.said, one_by_one.said, strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)
    for layer in full:
        torch.testing.assert_close(
            together.held[layer][record].mass, one_by_one.held[layer][record].mass
        )


@pytest.mark.parametrize(
    "record",
    [
        AttentionReceived("answers"),
        AttentionReceived("all", "max", among="memory"),
        AttentionReceived("predictions", among="chunk"),
        References(at_most=40),
    ],
)
@pytest.mark.parametrize("family", ["qwen2_vl", "llava"])
def test_a_batch_is_recorded_as_one_after_the_other(family: str, record: Record) -> None:
    """Demonstrations of several lengths, padded and together, against each by itself."""
    backbone = tiny_backbone(family)
    transcript = backbone.transcript([1, 2, 3, 4])
    memory = build_tiny(backbone, transcript, recipe="full")
    whole = replay_of(backbone, transcript, memory)
    demonstrations = tuple(
        shorter(chunk, cut) for chunk, cut in zip(whole.demonstrations, (0, 2, 1, 2), strict=True)
    )
    replay = replace(whole, demonstrations=demonstrations, chunk=memory.logical_length - 4)
    together = replay.read(layers_of(memory), (record,))
    held: dict[int, Any] = {}
    # The order of a batch: by length.
    for number in (1, 3, 2, 0):
        one = replace(replay, demonstrations=(demonstrations[number],))
        for layer, found in one.read(layers_of(memory), (record,)).held.items():
            held.setdefault(layer, []).append(found[record])
    for layer, parts in held.items():
        ours = together.held[layer][record]
        if isinstance(record, References):
            expected = reduce(lambda first, later: first.joined(later), parts)
            names = [one.name for one in fields(expected)][:-2]
        else:
            largest = record.statistic == "max"  # type: ignore[attr-defined]
            masses = torch.stack([part.mass for part in parts])
            mass = masses.amax(0) if largest else masses.sum(0)
            expected = Received(mass, sum(part.seen_by for part in parts))
            names = ["mass", "seen_by"]
        for name in names:
            theirs = getattr(expected, name)
            torch.testing.assert_close(getattr(ours, name), theirs, atol=2e-5, rtol=1e-4, msg=name)


def shorter(chunk: Transcript, cut: int) -> Transcript:
    """A demonstration without its first words."""
    columns = ("input_ids", "roles", "demonstration", "place")
    rest = {name: getattr(chunk, name)[cut:] for name in columns}
    return replace(chunk, spans=((0, len(chunk) - cut),), **rest)
