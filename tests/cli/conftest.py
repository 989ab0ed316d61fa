"""Runs the command in this process, on a tiny random model and real picture files."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from tests.tiny_folders import tiny_folder

COLOURS = ("red", "green", "blue", "yellow")


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("ask", folder, "--question", "Which?")` as a person would type it."""

    def call(*arguments: Any) -> Ran:
        from tasm.cli.app import app

        capsys.readouterr()
        try:
            app([str(argument) for argument in arguments], prog_name="tasm")
            code: Any = 0
        except SystemExit as left:
            code = left.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ran(int(code or 0), captured.out, captured.err)

    return call


def draw(path: Path, colour: str, size: tuple[int, int] = (56, 56)) -> None:
    """A coloured disc, saved in the format that the path's ending names."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((8, 8, size[0] - 9, size[1] - 9), fill=colour)
    image.save(path)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def colour_rows(folder: Path) -> list[dict[str, Any]]:
    """Eight demonstrations, PNG and JPEG in turn."""
    rows = []
    for number in range(8):
        colour = COLOURS[number % 4]
        name = f"{number}.{'png' if number % 2 else 'jpg'}"
        draw(folder / name, colour, (56, 56 + 8 * (number // 4)))
        rows.append({"image": name, "question": "What colour?", "answer": colour})
    return rows


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2-VL, saved as the family saves it."""
    return tiny_folder("qwen2_vl", tmp_path_factory.mktemp("model") / "qwen2_vl")


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with other random weights."""
    return tiny_folder("qwen2_vl", tmp_path_factory.mktemp("other") / "qwen2_vl", seed=1)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A folder with demonstrations, queries and a memory; not to be written to."""
    folder = tmp_path_factory.mktemp("built")
    rows = colour_rows(folder)
    write_rows(folder / "demos.jsonl", rows)
    draw(folder / "new.png", "blue")
    queries = [
        {"image": "new.png", "question": "What colour?", "answer": ["blue", "navy"]},
        {"images": ["0.jpg", "new.png"], "question": "<image> or <image>: which is red?"},
        {"question": "What colour?", "answer": "red"},
    ]
    write_rows(folder / "queries.jsonl", queries)
    import tasm
    from tasm.view.thumbnails import thumbnails

    demonstrations = tasm.read_demonstrations(folder / "demos.jsonl")
    memory = tasm.build(tasm.load_model(str(model)), demonstrations, recipe="tasm")
    memory.save(folder / "memory.tasm", pictures=thumbnails(demonstrations))
    return folder


@pytest.fixture
def fresh(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `built` that a test may damage; beside it, so that relative paths still hold."""
    return Path(shutil.copytree(built, tmp_path_factory.mktemp("fresh"), dirs_exist_ok=True))
