"""Whatever is given, it is read or refused with a sentence; nothing else ever happens."""

import base64
import contextlib
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tasm.demonstrations import Picture, read_demonstrations, read_queries
from tasm.errors import DemonstrationError

FIELDS = ["images", "image", "question", "answer", "id", "messages", "role", "content", "type"]
WORDS = ["user", "assistant", "system", "text", "image", "image_url", "<image>", "gone.png", "a"]

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(WORDS)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*FIELDS, "text", "url"]), inner, max_size=5)
    ),
    max_leaves=12,
)
rows = st.fixed_dictionaries(
    {}, optional={"question": values, "answer": values, "images": values, "messages": values}
)


def refused_or(read: Any, given: Any) -> list[Any] | None:
    """What `read` gives, or None when it refuses with a sentence."""
    try:
        return read(given, warn=lambda message: None)
    except DemonstrationError as error:
        assert str(error)
        return None


@given(rows | values)
@example({"question": "Which?", "answer": "wren"})
def test_any_row(row: Any) -> None:
    for one in refused_or(read_demonstrations, [row]) or []:
        assert one.answer.strip()
        assert one.messages[-1].role == "assistant"
    for one in refused_or(read_queries, [row]) or []:
        assert one.messages[-1].role == "user"


@given(
    st.sampled_from([".jsonl", ".json", ".csv"]), st.binary(max_size=60) | values.map(json.dumps)
)
def test_any_file(tmp_path: Path, suffix: str, content: bytes | str) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / f"a{suffix}").write_bytes(data)
    refused_or(read_demonstrations, tmp_path / f"a{suffix}")
    refused_or(read_queries, tmp_path / f"a{suffix}")


NOISE = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)


def saved(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, format=kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@given(data=st.data())
def test_any_damage_to_a_picture(kind: str, data: st.DataObject) -> None:
    content = bytearray(saved(kind))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        assert Picture(bytes(content)).load().mode == "RGB"
    except DemonstrationError as error:
        assert str(error).startswith("picture in memory: found ")


PICTURE = "data:image/png;base64," + base64.b64encode(saved("PNG")).decode()
SOUND_ROWS: list[dict[str, Any]] = [
    {"id": "a", "image": PICTURE, "question": "Which?", "answer": "wren"},
    {"images": [PICTURE, PICTURE], "question": "Is <image> <image>?", "answer": 3},
    {"messages": [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "b"}]},
]


def sound_files() -> dict[str, bytes]:
    """One sound file of every kind, to be damaged."""
    lines = "".join(json.dumps(row) + "\n" for row in SOUND_ROWS)
    files = {
        "a.jsonl": lines.encode(),
        "a.json": json.dumps(SOUND_ROWS).encode(),
        "a.csv": f'image,question,answer\n"{PICTURE}","A, ""b""?",wren\n'.encode(),
        "metadata.csv": b"file_name,question,answer\n1.png,A?,wren\n",
    }
    with contextlib.suppress(ImportError):
        import pyarrow
        from pyarrow import parquet

        row = {"image": {"bytes": saved("PNG"), "path": None}, "question": "A?", "answer": "b"}
        table = pyarrow.Table.from_pylist([row])
        sink = io.BytesIO()
        parquet.write_table(table, sink)
        files["a.parquet"] = sink.getvalue()
        stream = io.BytesIO()
        with pyarrow.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        files["a.arrow"] = stream.getvalue()
    return files


SOUND_FILES = sound_files()
INSERTED = [b"\0", b"\xff", b'"', b"{", b"[" * 5000, b",", b"\r", b"\xef\xbb\xbf", b"NaN", b"1e999"]


def damaged(content: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(content) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            content = content[:place]
        elif kind == 1:
            content = content[:place] + rng.choice(INSERTED) + content[place:]
        elif kind == 2:
            content = content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]
        elif kind == 3:
            content = content[:place] + content[place + rng.randint(1, 40) :]
        else:
            content = content[:place] + content[place : place + 50] + content[place:]
    return content


@pytest.mark.parametrize("name", SOUND_FILES)
def test_damaged_files_of_every_kind(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    Image.fromarray(NOISE).save(tmp_path / "1.png")
    path = tmp_path / name
    path.write_bytes(SOUND_FILES[name])
    assert read_demonstrations(path, warn=lambda message: None)
    for _ in range(120):
        path.write_bytes(damaged(SOUND_FILES[name], rng))
        refused_or(read_demonstrations, path)
        refused_or(read_queries, path)


def changed(value: Any, rng: random.Random) -> Any:
    """`value` with one thing in it replaced, left out or repeated."""
    odd = [None, True, -1, 1.5, float("nan"), "", "\ud800", "\0", [], {}, b"x", object(), NOISE, 1j]
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(list(value))
        if rng.random() < 0.2:
            return {other: value[other] for other in value if other != name}
        if rng.random() < 0.2:
            return {(name.title() if other == name else other): value[other] for other in value}
        return {**value, name: changed(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], changed(value[place], rng), *value[place:]]
    return rng.choice(odd)


def test_changed_rows_of_every_kind() -> None:
    rng = random.Random(0)
    for _ in range(600):
        rows = [changed(rng.choice(SOUND_ROWS), rng)]
        refused_or(read_demonstrations, rows)
        refused_or(read_queries, rows)
        refused_or(read_demonstrations, rows[0])
        if isinstance(rows[0], dict):
            refused_or(read_queries, {name: [value] for name, value in rows[0].items()})
