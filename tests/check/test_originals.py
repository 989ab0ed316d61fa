"""The demonstrations a memory was built from are found again, or count as gone."""

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tasm
from tasm.check.originals import originals_of
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
    assert originals_of(Memory(read)) == read


def test_marks_stay_where_they_were(tmp_path: Path) -> None:
    rows = [
        {"images": ["0.png", "1.png"], "question": "a <image> b <image>", "answer": "c"},
        {"question": "no picture", "answer": "d"},
    ]
    read = tasm.read_demonstrations(written(tmp_path, rows))
    (tmp_path / "demos.jsonl").unlink()  # entries alone are enough for one question and answer
    assert originals_of(Memory(read)) == read


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
    assert originals_of(memory) is None


def test_turns_need_their_file(tmp_path: Path) -> None:
    memory = Memory(tasm.read_demonstrations(written(tmp_path, [turns(0)])))
    (tmp_path / "demos.jsonl").write_text(json.dumps(row(0)) + "\n")
    assert originals_of(memory) is None


def test_nothing_recorded_is_nothing_found(tmp_path: Path) -> None:
    memory = Memory(tasm.read_demonstrations(written(tmp_path, [row(0)])))
    memory.demonstrations = []
    assert originals_of(memory) is None


def test_given_demonstrations_are_put_in_order(tmp_path: Path) -> None:
    rows = [row(0), row(1), row(2)]
    memory = Memory(tasm.read_demonstrations(written(tmp_path, rows))[:2])
    there = tmp_path / "there.jsonl"
    there.write_text("".join(json.dumps(one) + "\n" for one in reversed(rows)))
    found = originals_of(memory, there)
    assert found is not None
    assert [one.answer for one in found] == ["answer 0", "answer 1"]
    there.write_text("".join(json.dumps(one) + "\n" for one in rows[1:]))
    with pytest.raises(tasm.errors.InputError, match=r"there.jsonl holds 2 .* 1 of 2 are missing"):
        originals_of(memory, there)
    with pytest.raises(tasm.errors.InputError, match=r"^The list of demonstrations holds 1 "):
        originals_of(memory, [{"question": "Which?", "answer": "another"}])


def picture_bytes(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20 + number), "red").save(file, format="PNG")
    return file.getvalue()


def in_parquet(folder: Path, **more: Any) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [
        {"image": {"bytes": picture_bytes(n), "path": f"{n}.png"}, "answer": f"{n}", **more}
        for n in range(3)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "demos.parquet")
    return folder / "demos.parquet"


def in_json(folder: Path) -> Path:
    address = "data:image/png;base64," + base64.b64encode(picture_bytes(1)).decode()
    (folder / "demos.json").write_text(json.dumps([{**row(1), "image": address}]))
    return folder / "demos.json"


def in_csv(folder: Path) -> Path:
    Image.new("RGB", (20, 20), "red").save(folder / "0.png")
    (folder / "a, line 3.csv").write_text("image,question,answer\n0.png,Which?,3\n")
    return folder / "a, line 3.csv"


def as_metadata(folder: Path) -> Path:
    Image.new("RGB", (20, 20), "red").save(folder / "0.png")
    (folder / "metadata.csv").write_text("file_name,question,answer\n0.png,Which?,3\n")
    return folder


@pytest.mark.parametrize(
    "write",
    [lambda folder: in_parquet(folder, question="Which?"), in_json, in_csv, as_metadata],
    ids=["parquet", "json", "csv", "metadata"],
)
def test_every_kind_of_file_is_found_again(write: Any, tmp_path: Path) -> None:
    place = write(tmp_path)
    read = tasm.read_demonstrations(place)
    memory = Memory(read)
    recorded = {entry.origin for entry in memory.demonstrations}
    assert recorded == {str(place / "metadata.csv" if place.is_dir() else place)}
    assert originals_of(memory) == read
    assert originals_of(memory, place) == read


def test_the_question_that_was_given_is_asked_again(tmp_path: Path) -> None:
    place = in_parquet(tmp_path)
    read = tasm.read_demonstrations(place, question="Which?")
    assert originals_of(Memory(read)) == read
    assert originals_of(Memory(read), place) == read


def test_what_was_found_again_can_be_found_once_more(tmp_path: Path) -> None:
    place = written(tmp_path, [row(0), row(1)])
    again = originals_of(Memory(tasm.read_demonstrations(place)))
    assert again is not None
    assert [entry.origin for entry in Memory(again).demonstrations] == [str(place)] * 2


def test_a_dataset_is_found_in_its_cache(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    place = in_parquet(tmp_path, question="Which?")
    dataset = datasets.Dataset.from_parquet(str(place), cache_dir=str(tmp_path / "cache"))
    labels = datasets.ClassLabel(names=["wren", "robin", "crow"])
    for given in (dataset, dataset.select([2, 0]), dataset.cast_column("answer", labels)):
        read = tasm.read_demonstrations(given)
        assert originals_of(Memory(read)) == read


def test_rows_in_python_have_no_file(tmp_path: Path) -> None:
    read = tasm.read_demonstrations([{**row(0), "image": picture_bytes(0)}])
    assert Memory(read).demonstrations[0].origin is None
    assert originals_of(Memory(read)) is None


def test_names_that_no_text_can_hold_are_not_recorded(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        (tmp_path / name).write_bytes(picture_bytes(0))
    except OSError:
        pytest.skip("the file system has only names in Unicode")
    read = tasm.read_demonstrations([{**row(0), "image": tmp_path / name}])
    entry = Memory(read).demonstrations[0]
    assert entry.pictures[0].path is None
    json.dumps(entry.to_json(tmp_path), ensure_ascii=False).encode()
