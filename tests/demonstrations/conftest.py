"""A folder with a few pictures, and ways to write demonstrations into it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

WriteRows = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds wren.png (red), robin.jpg (blue) and crow.png (black), 8 × 6 pixels each."""
    Image.new("RGB", (8, 6), "red").save(tmp_path / "wren.png")
    Image.new("RGB", (8, 6), "blue").save(tmp_path / "robin.jpg")
    Image.new("RGB", (8, 6), "black").save(tmp_path / "crow.png")
    return tmp_path


@pytest.fixture
def write_rows(folder: Path) -> WriteRows:
    """Writes rows as JSON lines and returns the file's path."""

    def write(*rows: Any, name: str = "birds.jsonl") -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder / name

    return write
