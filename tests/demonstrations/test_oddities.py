"""The bundled model knows only its own suites' pictures; others are warned of."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasm.demonstrations import make_query, warn_of_unlike_pictures
from tasm.demonstrations.oddities import FRAME
from tasm.suites import pictures
from tasm.suites.suites import PICTURED, write_suite


def warned(images: list[Image.Image], name: str = "reference") -> list[str]:
    said: list[str] = []
    warn_of_unlike_pictures(name, [make_query("Which?", image) for image in images], said.append)
    return said


def photograph(size: tuple[int, int]) -> Image.Image:
    width, height = size
    ramp = np.add.outer(np.arange(height), np.arange(width)) % 256
    return Image.fromarray(np.dstack([ramp, ramp // 2, 255 - ramp]).astype(np.uint8))


def test_the_frame_is_the_suites_own() -> None:
    assert FRAME == pictures.FRAME


@pytest.mark.parametrize("suite", PICTURED)
def test_pictures_of_every_suite_are_known(suite: str, tmp_path: Path) -> None:
    write_suite(suite, tmp_path, demonstrations=4, queries=2)
    images = [Image.open(path) for path in sorted(tmp_path.rglob("*.png"))]
    assert images
    assert warned(images) == []
    file = io.BytesIO()
    images[0].convert("RGB").save(file, format="JPEG", quality=85)
    assert warned([Image.open(file), images[0].resize((128, 128))]) == []


@pytest.mark.parametrize("size", [(64, 64), (640, 480), (32, 32), (3, 200), (1, 1)])
def test_other_pictures_are_counted(size: tuple[int, int]) -> None:
    (said,) = warned([photograph(size), Image.new("RGB", (64, 64), "black"), photograph(size)])
    assert said.startswith("2 of 2 different pictures are unlike those of the bundled model's own")
    assert "--model" in said


def test_other_models_and_questions_without_pictures_are_not_judged() -> None:
    assert warned([photograph((64, 64))], name="Qwen/Qwen2.5-VL-7B-Instruct") == []
    said: list[str] = []
    warn_of_unlike_pictures("reference", [make_query("Which?")], said.append)
    assert said == []
