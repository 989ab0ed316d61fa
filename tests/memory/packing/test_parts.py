"""Whole numbers, vectors, rotations and biases in few bits, each against plain arithmetic."""

import contextlib
import math
import struct
import zlib
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from tasm.backbone.attention.rotary import Rotary
from tasm.memory.packing.integers import deflated, inflated
from tasm.memory.packing.layer import PackedBias, PackedTokens, every_mean, means_that_pay
from tasm.memory.packing.rotation import Rotation
from tasm.memory.packing.vectors import STORES, Vectors, hadamard, row_bytes
from tests.memory.memories import layer_tokens
from tests.tiny_models import tiny_model


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=200))
def test_whole_numbers_come_back(numbers):
    stream = deflated(torch.tensor(numbers, dtype=torch.int64))
    assert inflated(stream, (len(numbers),)).tolist() == numbers


def test_a_stream_is_what_its_description_says():
    numbers = [5, 7, 7, -1]
    steps = [5, 2, 0, -8]
    little = [struct.pack("<i", step) for step in steps]
    planes = b"".join(bytes(one[byte] for one in little) for byte in range(4))
    assert zlib.decompress(deflated(torch.tensor(numbers)).numpy().tobytes()) == planes


def test_what_counts_up_takes_next_to_nothing():
    assert len(deflated(torch.arange(100_000))) < 1500


@pytest.mark.parametrize("count", [0, 3, 5, 2**40])
def test_a_stream_of_another_length_is_refused(count):
    with pytest.raises(ValueError, match="packed numbers"):
        inflated(deflated(torch.arange(4)), (count,))


def test_a_damaged_stream_is_refused_or_says_something_else():
    numbers = torch.arange(400) ** 2
    stream, unnoticed = deflated(numbers), 0
    for place in range(len(stream)):
        broken = stream.clone()
        broken[place] ^= 1
        with contextlib.suppress(ValueError):
            unnoticed += torch.equal(inflated(broken, (400,)).long(), numbers)
    assert unnoticed <= 2  # bits of deflate that say nothing
    with pytest.raises(ValueError, match="packed numbers"):
        inflated(torch.cat([stream, stream]), (400,))


def unpacked_by_hand(packed: Vectors) -> list[list[float]]:
    """The formula of docs/format.md, number by number."""
    bits = {"int8": 8, "int4": 4}[packed.store]
    turned = []
    for row in packed.rows.tolist():
        *codes, scale, offset = row
        if bits == 4:
            codes = [half for byte in codes for half in (byte & 15, byte >> 4)][: packed.size]
        offset = offset - 256 if offset > 127 else offset
        factor = 2 ** ((scale - 128) / 8)
        turned.append([factor * (code - 2 ** (bits - 1) + offset) for code in codes])
    return (torch.tensor(turned) @ hadamard(packed.size)).tolist()


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("size", [1, 3, 8, 24, 64, 80])
def test_vectors_are_what_their_description_says_and_near(store, size):
    vectors = torch.randn(9, size, generator=torch.Generator().manual_seed(size)) * 5 + 1
    packed = Vectors.of(vectors, store)
    assert packed.rows.shape == (9, row_bytes(size, store)) and packed.rows.dtype == torch.uint8
    assert torch.allclose(packed.plain(), torch.tensor(unpacked_by_hand(packed)), atol=1e-3)
    error = (packed.plain() - vectors).norm(dim=1) / vectors.norm(dim=1)
    assert float(error.max()) < {"int8": 0.02, "int4": 0.3}[store]


@pytest.mark.parametrize("store", STORES)
def test_no_number_is_further_off_than_half_a_step_of_what_is_cut_off(store):
    vectors = torch.randn(50, 64, generator=torch.Generator().manual_seed(1))
    turned = vectors @ hadamard(64)
    span = turned.amax(1) - turned.amin(1)
    steps = {"int8": 255, "int4": 15}[store]
    bound = (2 ** (1 / 8) * span / steps / 2).square() * 64  # rounded up to the next scale
    assert bool(((Vectors.of(vectors, store).plain() - vectors).square().sum(1) <= bound).all())


@pytest.mark.parametrize("store", STORES)
def test_vectors_of_any_size_and_offset(store):
    vectors = torch.stack(
        [torch.zeros(16), torch.full((16,), 1e4), torch.randn(16) * 1e-3, torch.randn(16) * 3e4]
    )
    error = (Vectors.of(vectors, store).plain() - vectors).norm(dim=1)
    assert bool((error <= 0.2 * vectors.norm(dim=1) + 1e-3).all())


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_numbers_that_cannot_be_packed_are_refused(bad):
    with pytest.raises(ValueError, match="number"):
        Vectors.of(torch.full((2, 4), bad), "int4")


@pytest.mark.parametrize("size", [1, 6, 8, 12, 64])
def test_hadamard_is_its_own_inverse(size):
    matrix = hadamard(size)
    assert torch.allclose(matrix @ matrix, torch.eye(size), atol=1e-6)


def test_single_large_channels_cost_little():
    vectors = torch.randn(40, 64, generator=torch.Generator().manual_seed(2))
    spread = Vectors.of(vectors, "int4")
    vectors[:, 5] = 30.0
    packed = Vectors.of(vectors, "int4")
    without = [channel for channel in range(64) if channel != 5]
    error = (packed.plain() - vectors)[:, without].std()
    assert error < 6 * (spread.plain() - vectors)[:, without].std()


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "llava", "gemma3"])
def test_a_rotation_is_the_models_own(family):
    tiny = tiny_model(family)
    rotary = Rotary(tiny.model)
    rows = 3 if family.startswith("qwen") else 1
    positions = torch.randint(0, 900, (rows, 7))
    keys = torch.randn(1, 7, 16)
    for layer in range(3):
        rotation = Rotation.read(rotary, layer, 16, rows)
        rotation.check(16, rows)
        rotated = rotary.rotate(layer, keys, positions)[0]
        turned = rotation.turned(keys[0], positions, back=False)
        assert torch.allclose(turned, rotated, atol=2e-3)
        assert torch.allclose(rotation.turned(turned, positions, back=True), keys[0], atol=1e-5)


def test_a_scaled_or_partial_rotation_turns_back_exactly():
    scaled = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=256,
        rope_parameters=scaled | {"original_max_position_embeddings": 64},
    )
    rotation = Rotation.read(Rotary(LlamaForCausalLM(config)), 0, 8, 1)
    assert rotation.frequencies.shape == (4,)
    keys, positions = torch.randn(5, 8), torch.randint(0, 200, (1, 5))
    turned = rotation.turned(keys, positions, back=False)
    assert torch.allclose(turned.norm(dim=1), keys.norm(dim=1), atol=1e-5)
    assert torch.allclose(rotation.turned(turned, positions, back=True), keys, atol=1e-5)


@pytest.mark.parametrize(
    ("pairs", "frequencies"),
    [
        ([[0], [0], [0]], [1.0]),
        ([[0], [9], [0]], [1.0]),
        ([[0], [1], [1]], [1.0]),
        ([[0], [1], [0]], [math.inf]),
    ],
)
def test_a_rotation_that_cannot_be_is_refused(pairs, frequencies):
    with pytest.raises(ValueError, match="rotation"):
        Rotation(torch.tensor(pairs), torch.tensor(frequencies)).check(8, 1)


def test_biases_are_near_and_those_far_below_weigh_nothing():
    bias = torch.tensor([0.3, -2.0, -1e30, 1.7])
    plain = PackedBias.of(bias).plain()
    assert torch.allclose(plain[[0, 1, 3]], bias[[0, 1, 3]], atol=0.07)
    assert float((plain[2] - plain[3]).exp()) < 1e-12
    assert torch.equal(PackedBias.of(torch.zeros(3)).plain(), torch.zeros(3))


@pytest.mark.parametrize("lengths", [(12, 12), (5, 0), (1, 9), (0, 0)])
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("has_mean", [every_mean, means_that_pay])
def test_a_layer_comes_back(lengths, store, has_mean):
    layer = layer_tokens(torch.Generator().manual_seed(3), lengths, total=40, bias=True)
    positions = torch.arange(40)[None]
    rotation = Rotation(
        torch.tensor([[0, 1], [4, 5], [0, 0]], dtype=torch.int32), torch.tensor([1.0, 0.1])
    )
    packed = PackedTokens.of(layer, store, positions, rotation, has_mean)
    plain = packed.plain(positions, rotation, torch.float32)
    assert plain.counts == layer.counts and torch.equal(plain.index, layer.index)
    for name in ("keys", "values"):
        for head, count in enumerate(lengths):
            before, after = getattr(layer, name)[head, :count], getattr(plain, name)[head, :count]
            assert bool((after - before).norm() <= 0.15 * before.norm())
    with pytest.raises(ValueError, match="the table has 3" if sum(lengths) else "$^"):
        packed.plain(positions[:, :3], rotation, torch.float32)
        raise ValueError


def test_only_the_means_that_pay_take_bytes():
    generator = torch.Generator().manual_seed(4)
    layer = layer_tokens(generator, (20, 20), total=40)
    values = layer.values.clone()
    values[1] += 9.0
    positions, none = torch.zeros(1, 40, dtype=torch.int32), torch.zeros(3, 0, dtype=torch.int32)
    given = (replace(layer, values=values), "int4", positions, Rotation(none, torch.zeros(0)))
    some, every = (PackedTokens.of(*given, rule) for rule in (means_that_pay, every_mean))
    assert some.means == ((False, False), (False, True))
    row = row_bytes(values.shape[2], "int4")
    assert every.nbytes - some.nbytes == 3 * row - 1  # a byte says which there are
    assert torch.equal(some.plain_values(torch.float32)[1], every.plain_values(torch.float32)[1])


@pytest.mark.parametrize("far", [0.0, 0.2, 0.5, 1.0, 2.0, 30.0])
@pytest.mark.parametrize("tokens", [1, 2, 20, 200])
def test_a_mean_pays_where_it_spares_more_bits_than_it_takes(far, tokens):
    generator = torch.Generator().manual_seed(5)
    vectors = torch.randn(tokens, 16, generator=generator) + far
    whole = sum(number**2 for row in vectors.tolist() for number in row)
    middle = [sum(column) / tokens for column in vectors.T.tolist()]
    beside = whole - tokens * sum(number**2 for number in middle)
    bits = 0.0 if tokens == 1 else tokens * 16 * math.log2(whole / beside) / 2
    assert means_that_pay(vectors, "int8") == (bits > 8 * 18)
