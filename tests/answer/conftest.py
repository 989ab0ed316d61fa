"""A tiny random model with a memory of a few demonstrations, in memory."""

from pathlib import Path

import pytest
from PIL import Image

import tasm
from tests.tiny_folders import tiny_folder

COLOURS = ("red", "green", "blue", "yellow", "black", "white")


def demonstrations() -> list[tasm.Demonstration]:
    return tasm.read_demonstrations(
        [
            {
                "image": Image.new("RGB", (56, 56 + 28 * (number % 2)), colour),
                "question": "What colour is it?",
                "answer": " ".join([colour] * (1 + number % 3)),
            }
            for number, colour in enumerate(COLOURS)
        ]
    )


def queries() -> list[tasm.Query]:
    """Of different lengths, so that a batch of them is padded."""
    blue = Image.new("RGB", (56, 56), "blue")
    tall = Image.new("RGB", (56, 112), "orange")
    return [
        tasm.make_query("What colour is it?", images=[blue]),
        tasm.make_query("<image> and <image>: which of the two is red?", images=[blue, tall]),
        tasm.make_query("And without a picture?"),
        tasm.make_query("What colour is it? Please say it in one word.", images=[tall]),
    ]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder("qwen2_vl", tmp_path_factory.mktemp("answer") / "qwen2_vl")


@pytest.fixture(scope="session")
def model(folder: Path) -> tasm.Model:
    return tasm.load_model(str(folder))


@pytest.fixture(scope="session")
def memory(model: tasm.Model) -> tasm.TaskMemory:
    return tasm.build(model, demonstrations(), recipe="tasm", core="40%")


@pytest.fixture(scope="session")
def full(model: tasm.Model) -> tasm.TaskMemory:
    return tasm.build(model, demonstrations(), recipe="full")
