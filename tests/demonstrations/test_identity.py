"""Two contents have one identity exactly when their pixels and texts are the same."""

import gc
import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasm.demonstrations import Message, Picture, content_hash, make_query, read_demonstrations
from tasm.demonstrations.picture import _HOLDER
from tasm.errors import DemonstrationError


def test_of_a_picture_worked_out_by_hand(tmp_path: Path) -> None:
    Image.new("RGB", (2, 1), (1, 2, 3)).save(tmp_path / "a.png")
    framed = (
        b"tasm picture RGB\0"
        + (2).to_bytes(8, "little")
        + (1).to_bytes(8, "little")
        + bytes([1, 2, 3, 1, 2, 3])
    )
    assert Picture(tmp_path / "a.png").sha256 == hashlib.sha256(framed).hexdigest()


def test_of_a_conversation_worked_out_by_hand() -> None:
    picture = Picture(Image.new("RGB", (1, 1)))
    framed = b"tasm conversation\0"
    parts = ((b"M", b"user"), (b"P", bytes.fromhex(picture.sha256)), (b"T", "Größe?".encode()))
    for kind, data in parts:
        framed += kind + len(data).to_bytes(8, "little") + data
    found = content_hash([Message("user", (picture, "Größe?"))])
    assert found == hashlib.sha256(framed).hexdigest()


def test_the_file_format_does_not_count(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    for name in ("a.png", "b.bmp", "c.tif"):
        image.save(tmp_path / name)
    image.save(tmp_path / "d.webp", lossless=True)
    identities = {Picture(path).sha256 for path in tmp_path.iterdir()} | {Picture(image).sha256}
    assert len(identities) == 1


def test_the_shape_counts() -> None:
    wide, tall = Image.new("RGB", (4, 2)), Image.new("RGB", (2, 4))
    assert Picture(wide).sha256 != Picture(tall).sha256


def test_a_picture_in_memory_is_taken_as_it_was() -> None:
    image = Image.new("RGB", (2, 2), "red")
    picture = Picture(image)
    image.putpixel((0, 0), (0, 0, 0))
    assert picture.sha256 == Picture(Image.new("RGB", (2, 2), "red")).sha256
    assert picture.load().getpixel((0, 0)) == (255, 0, 0)


def test_a_picture_that_was_decoded_stays_what_it_was(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), "red").save(tmp_path / "a.png")
    picture = Picture(tmp_path / "a.png")
    known = picture.sha256
    (tmp_path / "a.png").unlink()
    picture.load().putpixel((0, 0), (0, 0, 255))  # a copy, drawn on
    assert picture.load().getpixel((0, 0)) == (255, 0, 0)
    sent = pickle.loads(pickle.dumps(picture))
    assert sent.sha256 == known
    with pytest.raises(DemonstrationError, match="no such file"):
        sent.load()


def test_no_more_is_held_than_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    held = _HOLDER._bytes
    monkeypatch.setattr("tasm.demonstrations.picture.HELD_BYTES", held + 24)
    for name in "abc":
        Image.new("RGB", (2, 2), "red").save(tmp_path / f"{name}.png")
    pictures = [Picture(tmp_path / f"{name}.png") for name in "abc"]
    assert len({picture.sha256 for picture in pictures}) == 1
    assert [hasattr(picture, "_held") for picture in pictures] == [True, True, False]
    assert pictures[2].load().size == (2, 2)
    del pictures
    gc.collect()
    assert held == _HOLDER._bytes


def test_a_file_that_changes_after_it_was_read_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasm.demonstrations.picture.HELD_BYTES", 0)
    Image.new("RGB", (2, 2), "red").save(tmp_path / "a.png")
    picture = Picture(tmp_path / "a.png")
    assert picture.sha256
    Image.new("RGB", (2, 2), "blue").save(tmp_path / "a.png")
    with pytest.raises(DemonstrationError, match="changed while it was in use"):
        picture.load()


pieces = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=4)


@given(pieces, pieces)
def test_framing_is_unambiguous(first: list[str], second: list[str]) -> None:
    """Contents are equal exactly when their hashes are, wherever the pieces are cut."""
    one, other = Message("user", tuple(first)), Message("user", tuple(second))
    assert (content_hash([one]) == content_hash([other])) == (first == second)


def test_roles_and_order_count() -> None:
    user, assistant = Message("user", ("a",)), Message("assistant", ("a",))
    hashes = [[user], [assistant], [user, assistant], [assistant, user], [user, user]]
    assert len({content_hash(messages) for messages in hashes}) == 5


def test_default_id_is_the_beginning_of_the_hash(folder: Path) -> None:
    (one,) = read_demonstrations(
        [{"image": folder / "wren.png", "question": "Which bird?", "answer": "wren"}]
    )
    assert one.id == one.content_hash[:16]
    assert one.content_hash == content_hash(one.messages)
    query = make_query("Which bird?", images=[folder / "wren.png"])
    assert query.id == content_hash(query.messages)[:16]


def test_a_row_and_the_same_chat_are_the_same_content(folder: Path) -> None:
    row = {"image": "wren.png", "question": "Which bird?", "answer": "wren"}
    chat = {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "path": "wren.png"},
                    {"type": "text", "text": "Which "},
                    {"type": "text", "text": "bird?"},
                ],
            },
            {"role": "assistant", "content": "wren"},
        ]
    }
    for name, content in (("a.jsonl", row), ("b.jsonl", chat)):
        (folder / name).write_text(json.dumps(content))
    (a,), (b,) = (read_demonstrations(folder / name) for name in ("a.jsonl", "b.jsonl"))
    assert a == b
