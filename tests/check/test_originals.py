"""The demonstrations a memory was built from are found again, or count as gone."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tasm
from tasm.check.originals import given_demonstrations, recorded_demonstrations
from tasm.compress.entries import entries_of


class Memory:
    """What is read of a memory here: its entries and its system prompt."""

    def __init__(self, read: list[tasm.Demonstration]) -> None:
        class Transcript:
            spans = tuple((number, number + 1) for number in range(len(read)))
            text_ends = ()

        class Layout:
            system = read[0].system

        self.demonstrations = entries_of(read, Transcript())
        self.layout = Layout()


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"image": f"{number}.png", "question": "Which?", "answer": f"answer {number}", **more}


def turns(number: int) -> dict[str, Any]:
    """A demonstration of two turns, with a system message: more than question and answer."""
    return {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "image", "image": f"{number}.png"}]},
            {"role": "assistant", "content": "a disc"},
            {"role": "user", "content": f"And {number}?"},
            {"role": "assistant", "content": "another"},
        ]
    }


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    for number in range(len(rows)):
        Image.new("RGB", (20, 20 + number), "red").save(folder / f"{number}.png")
    path = folder / "demos.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


@pytest.mark.parametrize("make", [row, turns])
def test_what_is_still_there_is_found(make: Any, tmp_path: Path) -> None:
    read = tasm.read_demonstrations(written(tmp_path, [make(0), make(1)]))
    assert recorded_demonstrations(Memory(read)) == read


def test_marks_stay_where_they_were(tmp_path: Path) -> None:
    rows = [
        {"images": ["0.png", "1.png"], "question": "a <image> b <image>", "answer": "c"},
        {"question": "no picture", "answer": "d"},
    ]
    read = tasm.read_demonstrations(written(tmp_path, rows))
    (tmp_path / "demos.jsonl").unlink()  # entries alone are enough for one question and answer
    assert recorded_demonstrations(Memory(read)) == read


@pytest.mark.parametrize("harm", ["remove", "repaint", "text"])
def test_what_was_changed_counts_as_gone(harm: str, tmp_path: Path) -> None:
    read = tasm.read_demonstrations(written(tmp_path, [row(0), row(1)]))
    memory = Memory(read)
    picture = tmp_path / "1.png"
    if harm == "remove":
        picture.unlink()
    elif harm == "text":
        picture.write_text("no picture")
    else:
        Image.new("RGB", (20, 21), "blue").save(picture)
    assert recorded_demonstrations(memory) is None


def test_turns_need_their_file(tmp_path: Path) -> None:
    memory = Memory(tasm.read_demonstrations(written(tmp_path, [turns(0)])))
    (tmp_path / "demos.jsonl").write_text(json.dumps(row(0)) + "\n")
    assert recorded_demonstrations(memory) is None


def test_nothing_recorded_is_nothing_found(tmp_path: Path) -> None:
    memory = Memory(tasm.read_demonstrations(written(tmp_path, [row(0)])))
    memory.demonstrations = []
    assert recorded_demonstrations(memory) is None


def test_given_demonstrations_are_put_in_order(tmp_path: Path) -> None:
    read = tasm.read_demonstrations(written(tmp_path, [row(0), row(1), row(2)]))
    memory = Memory(read[:2])
    assert given_demonstrations(memory, [read[2], read[1], read[0]], "there") == read[:2]
    with pytest.raises(tasm.errors.InputError, match=r"there holds 2 .* 1 of 2 are missing"):
        given_demonstrations(memory, read[1:], "there")
