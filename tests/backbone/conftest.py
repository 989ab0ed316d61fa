"""Tiny checkpoints of every family, written once a session, and a conversation for all of them."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasm.backbone import Backbone, load_backbone
from tasm.demonstrations import Demonstration, Query, make_query, read_demonstrations
from tests.tiny_folders import IMAGE_FAMILIES, tiny_folder


@pytest.fixture(autouse=True)
def own_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fingerprints of test files are not remembered in the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny checkpoint; read only."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = tiny_folder(family, tmp_path_factory.mktemp(family))
        return made[family]

    return folder


@pytest.fixture(scope="session")
def backbone_of(folder_of: Callable[[str], Path]) -> Callable[[str], Backbone]:
    """A family's tiny model."""
    loaded: dict[str, Backbone] = {}

    def backbone(family: str) -> Backbone:
        if family not in loaded:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loaded[family] = load_backbone(folder_of(family))
        return loaded[family]

    return backbone


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


PICTURES = [
    picture(*size, seed)
    for seed, size in enumerate([(56, 56), (112, 84), (60, 90), (40, 100), (50, 50)])
]


def demonstrations_for(family: str) -> list[Demonstration]:
    """Four demonstrations: an image, two images inside the text, two turns, an image."""
    turns = ["Is it the same?", "yes", "Why?", "no reason, maybe 東京"]
    roles = ["user", "assistant"] * 2
    rows: list[dict[str, Any]] = [
        {"question": "Which digit is shown?", "answer": "seven"},
        {"question": "What is in this picture?", "answer": "A red bird on a branch."},
        {"messages": [{"role": r, "content": c} for r, c in zip(roles, turns, strict=True)]},
        {"question": "Name the colour", "answer": "blue"},
    ]
    if family in IMAGE_FAMILIES:
        rows[0]["images"] = [PICTURES[0]]
        rows[1]["images"] = [PICTURES[1], PICTURES[2]]
        rows[1]["question"] = "<image>What <image> is in this picture?"
        rows[3]["images"] = [PICTURES[3]]
    return read_demonstrations(rows)


def queries_for(family: str) -> list[Query]:
    """Three queries of different lengths: an image, none, and two."""
    if family not in IMAGE_FAMILIES:
        return [
            make_query("Which one is it?"),
            make_query("And in words, please: which was first?"),
        ]
    return [
        make_query("Which one is it?", [PICTURES[4]]),
        make_query("And in words, please: what was the first one?"),
        make_query("<image> or <image>?", [PICTURES[0], PICTURES[3]]),
    ]
