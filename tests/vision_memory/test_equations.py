"""Mema's equations against values computed by hand, number by number, in plain Python."""

import math

import pytest
import torch
from torch import Tensor

from tasm.vision_memory.grouping import Packed, Rows
from tasm.vision_memory.module import (
    Feedback,
    Mema,
    PlainAdapter,
    UpdateUnit,
    alignment_loss,
    make_adapter,
    normalised,
)
from tasm.vision_memory.settings import AdapterSettings, Kind

SMALL = AdapterSettings(width=4, text_width=6, has_class_token=True, reduction=2)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shaken(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every weight drawn anew, so that none is zero by its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module


def norm(vector: list[float]) -> list[float]:
    mean = sum(vector) / len(vector)
    variance = sum((x - mean) ** 2 for x in vector) / len(vector)
    return [(x - mean) / math.sqrt(variance + 1e-5) for x in vector]


def linear(layer: torch.nn.Linear, vector: list[float]) -> list[float]:
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [
        sum(w * x for w, x in zip(row, vector, strict=True)) + b
        for row, b in zip(weight, bias, strict=True)
    ]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def gelu(x: float) -> float:
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def updated_by_hand(
    unit: UpdateUnit, memory: list[float], seen: list[float], question: list[float]
) -> list[float]:
    u = [max(0.0, x) for x in linear(unit.reduce, norm(memory) + seen + question)]
    own = {
        name: [x + b for x, b in zip(linear(layer, u), bias.tolist(), strict=True)]
        for name, layer, bias in (
            ("c", unit.candidate, unit.candidate_bias),
            ("i", unit.input, unit.input_bias),
            ("f", unit.forget, unit.forget_bias),
        )
    }
    return [
        sigmoid(f) * m + sigmoid(i) * math.tanh(c)
        for m, c, i, f in zip(memory, own["c"], own["i"], own["f"], strict=True)
    ]


def fed_back_by_hand(feedback: Feedback, token: list[float], beside: list[float]) -> list[float]:
    z = norm([x + c for x, c in zip(token, beside, strict=True)])
    delta = linear(feedback.outer, [gelu(x) for x in linear(feedback.inner, z)])
    gate = sigmoid(linear(feedback.gate, z)[0])
    return [x + gate * math.tanh(d) for x, d in zip(token, delta, strict=True)]


def close(found: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-4)


def test_two_layers_of_two_images_by_hand() -> None:
    mema = shaken(Mema(SMALL))
    assert isinstance(mema, Mema)
    layers = [drawn(2, 3, 4, seed=1), drawn(2, 3, 4, seed=2)]
    asked = drawn(2, 6, seed=3)
    memory, question = mema.start(2), mema.question(asked)
    outputs, memories = [], []
    for tokens in layers:
        added, memory = mema.step(tokens, memory, question, Rows(2))
        outputs.append(tokens + added)
        memories.append(memory)
    for image in range(2):
        assert mema.text is not None
        q = linear(mema.text, asked[image].tolist())
        c = [0.0] * 4
        for layer, tokens in enumerate(layers):
            rows = tokens[image].tolist()
            mean = [sum(row[d] for row in rows) / 3 for d in range(4)]
            largest = [max(row[d] for row in rows) for d in range(4)]
            y = linear(mema.view, mean + largest + rows[0])  # the class token comes first
            c = updated_by_hand(mema.update, c, y, q)
            close(memories[layer][image], c)
            for place, row in enumerate(rows):
                expected = fed_back_by_hand(mema.feedback, row, c)
                close(outputs[layer][image, place], expected)


def test_nothing_normalised_is_nothing() -> None:
    assert torch.equal(normalised(torch.zeros(2, 4)), torch.zeros(2, 4))


def test_as_many_parameters_as_published() -> None:
    clip_l = AdapterSettings(width=1024, text_width=4096, has_class_token=True)
    assert make_adapter(clip_l).parameter_count == 11_021_569


@pytest.mark.parametrize("has_class_token", [True, False])
@pytest.mark.parametrize("question_free", [True, False])
def test_the_control_has_as_many_parameters(has_class_token: bool, question_free: bool) -> None:
    counts = [
        make_adapter(
            AdapterSettings(256, 512, has_class_token, kind, question_free)
        ).parameter_count
        for kind in ("mema", "plain")
    ]
    assert abs(counts[0] - counts[1]) / counts[0] < 0.01


def test_without_a_class_token_two_views() -> None:
    settings = AdapterSettings(width=1024, text_width=4096, has_class_token=False)
    mema = Mema(settings)
    assert mema.view.in_features == 2 * 1024
    assert mema.parameter_count == 11_021_569 - 1024 * 1024


def test_gate_and_memory_begin_as_described() -> None:
    mema = Mema(SMALL)
    assert torch.equal(mema.update.forget_bias, torch.ones(4))
    assert torch.equal(mema.update.input_bias, torch.zeros(4))
    assert torch.equal(mema.update.candidate_bias, torch.zeros(4))
    assert float(mema.feedback.gate.bias.detach()) < 0
    assert not mema.feedback.outer.weight.any() and not mema.feedback.outer.bias.any()
    assert mema.feedback.inner.weight.any()


@pytest.mark.parametrize("kind", ["mema", "plain"])
@pytest.mark.parametrize("question_free", [True, False])
def test_nothing_is_added_at_the_start_and_all_learns(kind: Kind, question_free: bool) -> None:
    torch.manual_seed(0)
    settings = AdapterSettings(8, 6, True, kind, question_free, reduction=2)
    adapter = make_adapter(settings)
    before = {name: one.detach().clone() for name, one in adapter.named_parameters()}
    layers, wanted = [drawn(3, 5, 8, seed=s) for s in (1, 2, 3)], drawn(3, 5, 8, seed=9)
    asked = drawn(3, 6, seed=4)
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=0.01, weight_decay=0.0)
    losses = []
    for step in range(10):
        memory, question, x = adapter.start(3), adapter.question(asked), torch.zeros(3, 5, 8)
        for tokens in layers:
            x = x + tokens
            added, memory = adapter.step(x, memory, question, Rows(3))
            if step == 0:
                assert not added.any()
            x = x + added
        loss = (x - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    for name, parameter in adapter.named_parameters():
        assert not torch.equal(parameter, before[name]), f"{name} has not moved"


def test_the_control_carries_nothing_from_layer_to_layer() -> None:
    plain = shaken(PlainAdapter(SMALL))
    assert isinstance(plain, PlainAdapter)
    tokens, question = drawn(2, 3, 4), plain.question(drawn(2, 6, seed=1))
    first, memory = plain.step(tokens, plain.start(2), question, Rows(2))
    second, _ = plain.step(tokens, memory, question, Rows(2))
    assert torch.equal(first, second)
    assert question is not None
    close(
        tokens[1, 2] + first[1, 2],
        fed_back_by_hand(plain.feedback, tokens[1, 2].tolist(), question[1].tolist()),
    )


def test_padded_tokens_do_not_count() -> None:
    tokens = drawn(2, 5, 4)
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    rows = Rows(2, valid)
    assert torch.allclose(rows.mean(tokens)[1], tokens[1, :3].mean(0))
    assert torch.equal(rows.maximum(tokens)[1], tokens[1, :3].amax(0))
    assert torch.equal(rows.mean(tokens)[0], tokens[0].mean(0))


def test_packed_images_are_pooled_each_alone() -> None:
    images = [drawn(n, 4, seed=n) for n in (3, 1, 6)]
    packed = Packed(torch.tensor([0, 3, 4, 10], dtype=torch.int32))
    tokens = torch.cat(images)
    for number, image in enumerate(images):
        assert torch.allclose(packed.mean(tokens)[number], image.mean(0))
        assert torch.equal(packed.maximum(tokens)[number], image.amax(0))
        assert torch.equal(packed.first(tokens)[number], image[0])
    spread = packed.spread(torch.stack([image[0] for image in images]))
    expected = torch.cat([image[:1].expand_as(image) for image in images])
    assert torch.equal(spread, expected)


def test_alignment_is_the_cosine_of_the_mean() -> None:
    memories = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(alignment_loss(memories, torch.tensor([3.0, 3.0]))) == pytest.approx(0, abs=1e-6)
    expected = 1 - math.cos(math.pi / 4)
    assert float(alignment_loss(memories, torch.tensor([2.0, 0.0]))) == pytest.approx(expected)
