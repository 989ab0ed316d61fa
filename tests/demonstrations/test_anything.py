"""Whatever is given, it is read or refused with a sentence; nothing else ever happens."""

import io
import json
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
