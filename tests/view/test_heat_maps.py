"""Heat maps: shares counted by hand on a memory of a few tokens, and the pictures made of them."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from tasm.memory import Bank, LayerTokens, TokenTable
from tasm.view.heat_maps import BANK_COLOUR, as_sprite, heat_maps, kept_shares


class Memory:
    """What heat maps read of a memory: one image of 2 × 2 tokens between two words."""

    def __init__(self) -> None:
        self.tokens = TokenTable.make(
            positions=torch.arange(6)[None],
            roles=torch.tensor([2, 3, 3, 3, 3, 4]),
            demonstration=torch.zeros(6),
            place=torch.tensor(
                [
                    [-1, -1, -1, -1],
                    [0, 0, 0, 0],
                    [0, 0, 0, 1],
                    [0, 0, 1, 0],
                    [0, 0, 1, 1],
                    [-1, -1, -1, -1],
                ]
            ),
        )
        self.core = (kept([[1, 5], [1, 2]]), None)
        self.bank = Bank([kept([[3], [4]]), None])


def kept(index: list[list[int]]) -> LayerTokens:
    places = torch.tensor(index, dtype=torch.int32)
    zeros = torch.zeros(*places.shape, 4)
    return LayerTokens(zeros, zeros, places)


def test_shares_count_heads() -> None:
    core, bank = kept_shares(Memory())
    assert core.tolist() == [[0, 1, 0.5, 0, 0, 0.5], [0] * 6]
    assert bank.tolist() == [[0, 0, 0, 0.5, 0.5, 0], [0] * 6]


def test_padding_of_ragged_heads_does_not_count() -> None:
    memory = Memory()
    ragged = LayerTokens.ragged(
        [torch.zeros(2, 4), torch.zeros(1, 4)],
        [torch.zeros(2, 4), torch.zeros(1, 4)],
        [torch.tensor([1, 2]), torch.tensor([2])],
    )
    memory.core = (ragged, None)
    assert kept_shares(memory)[0][0].tolist() == [0, 0.5, 1, 0, 0, 0]


def test_a_map_lies_as_the_picture_does() -> None:
    memory = Memory()
    (only,) = heat_maps(memory, *kept_shares(memory))
    assert only.core[0].tolist() == [[1, 0.5], [0, 0]]
    assert only.bank[0].tolist() == [[0, 0], [0.5, 0.5]]
    assert only.core.shape == (2, 2, 2)


def test_a_memory_without_a_bank_has_empty_maps() -> None:
    memory = Memory()
    memory.bank = None
    (only,) = heat_maps(memory, *kept_shares(memory))
    assert not only.bank.any()


def test_a_sprite_stacks_the_mean_and_every_layer() -> None:
    shares = np.array([[[1.0, 0.0]], [[0.0, 0.0]]], np.float32)
    address = as_sprite(shares, BANK_COLOUR)
    head, _, data = address.partition(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == (2, 3)
    alpha = np.asarray(image)[..., 3].astype(float)
    assert alpha[1, 0] > 0 == alpha[1, 1] == alpha[2].max()
    assert alpha[0, 0] == pytest.approx(alpha[1, 0] / 2, abs=1)
    assert image.getpixel((0, 1))[:3] == BANK_COLOUR
