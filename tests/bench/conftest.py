"""A tiny random model, loaded once, and files of a user's own."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny_folders import tiny_folder

COLOURS = ("red", "green", "blue", "yellow")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A random Qwen2-VL checkpoint, saved as the family saves it."""
    return tiny_folder("qwen2_vl", tmp_path_factory.mktemp("model") / "qwen2_vl")


@pytest.fixture(scope="session")
def backbone(model_folder):
    from tasm.backbone.loading import load_backbone

    return load_backbone(str(model_folder))


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """`demos.jsonl` with six demonstrations and `queries.jsonl` with three queries."""
    folder = tmp_path_factory.mktemp("files")
    rows = []
    for number in range(9):
        colour = COLOURS[number % 4]
        Image.new("RGB", (56, 56 + 4 * number), colour).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "question": "What colour?", "answer": colour})
    for name, part in (("demos", rows[:6]), ("queries", rows[6:])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(text)
    return folder
