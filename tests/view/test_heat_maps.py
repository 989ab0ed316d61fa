"""Heat maps: shares counted by hand on a memory of a few tokens, and the pictures made of them."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from tasm.memory import Bank, LayerTokens, TokenTable
from tasm.view.heat_maps import BANK_COLOUR, STEPS, STRONGEST, as_sprite, heat_maps, kept_shares


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
    flat = torch.zeros(3, 4)
    ragged = LayerTokens.of_heads(flat, flat, torch.tensor([1, 2, 2]), (2, 1))
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


def pixels(address: str) -> np.ndarray:
    head, _, data = address.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def test_a_sprite_stacks_the_mean_and_every_layer() -> None:
    shares = np.array([[[1.0, 0.0]], [[0.0, 0.0]]], np.float32)
    image = pixels(as_sprite(shares, BANK_COLOUR))
    assert image.shape == (3, 2, 4)
    alpha = image[..., 3].astype(float)
    assert alpha[1, 0] == round(255 * STRONGEST)
    assert alpha[1, 1] == alpha[2].max() == 0
    assert alpha[0, 0] == pytest.approx(alpha[1, 0] / 2, abs=alpha[1, 0] / STEPS)
    assert tuple(image[1, 0, :3]) == BANK_COLOUR


def test_the_least_share_is_seen() -> None:
    alpha = pixels(as_sprite(np.array([[[0.01, 0.0]]], np.float32), BANK_COLOUR))[1, :, 3]
    assert alpha[0] > 0 == alpha[1]


def test_rows_may_stand_apart() -> None:
    shares = np.ones((2, 1, 3), np.float32)
    alpha = pixels(as_sprite(shares, BANK_COLOUR, strongest=1.0, row_height=4))[..., 3]
    assert alpha[:, 0].tolist() == [255, 0, 0, 0] * 3
