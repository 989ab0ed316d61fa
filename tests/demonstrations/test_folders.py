"""Nothing in a folder of pictures is passed over without a count."""

import os
from pathlib import Path

import pytest
from PIL import Image

from tasm.demonstrations import read_demonstrations
from tasm.errors import DemonstrationError


def picture(path: Path, colour: str | int = "red", kind: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), colour).save(path, format=kind)
    return path


def read(folder: Path, **options) -> tuple[list[tuple[str, str]], list[str]]:
    said: list[str] = []
    rows = read_demonstrations(folder, question="Which?", warn=said.append, **options)
    return [(one.answer, one.pictures[0].path.name) for one in rows], said


@pytest.mark.parametrize("name", ["1.JPG", "1.jfif", "1.jpe", "1.JPEG", "1.PnG", "1.webp", "1"])
def test_every_picture_is_read_whatever_its_name_ends_in(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "cat" / name, "blue", kind="PNG")
    picture(tmp_path / "dog" / "1.png")
    assert read(tmp_path) == ([("cat", name), ("dog", "1.png")], [])


UNREADABLE = {
    "1.HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture, which is not read"),
    "1.heif": (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heix", "a HEIC picture"),
    "1.jxl": (b"\xff\x0a\x00\x01", "a JPEG XL picture"),
    "1.svg": (b'<?xml version="1.0"?>\n<svg width="3"/>', "an SVG drawing"),
    "1.psd": (b"8BPS\0\1", "a Photoshop file"),
    "1.jpg": (b"<!DOCTYPE html><html>404", "a web page instead of a picture"),
    "2.jpg": (b"version https://git-lfs.github.com/spec/v1\noid", "run git lfs pull"),
    "1.png": (b"", "an empty file"),
    "3.png": (b"\x89PNG\r\n\x1a\n\0\0", "a damaged picture"),
    "1.gif": (b"\0\0\0\x18ftypisom\0\0\0\0mp41", "a video"),
    "1.dng": (b"II*\0", "a damaged picture"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_pictures_that_cannot_be_read_are_named(name: str, tmp_path: Path) -> None:
    content, said = UNREADABLE[name]
    picture(tmp_path / "cat" / "0.png")
    (tmp_path / "cat" / name).write_bytes(content)
    with pytest.raises(DemonstrationError) as raised:
        read(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path / 'cat' / name}, field 'image': found ")
    assert raised.value.exit_code == 2
    rows, (left_out,) = read(tmp_path, skip_bad_rows=True)
    assert rows == [("cat", "0.png")]
    assert str(tmp_path / "cat" / name) in left_out
    if said != "a damaged picture":  # Pillow's own words differ
        assert said in str(raised.value)


def test_folders_below_a_class_belong_to_it(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "1.png", "red")
    picture(tmp_path / "cat" / "2021" / "may" / "2.png", "blue")
    picture(tmp_path / "dog" / "1.png", "black")
    rows, (said,) = read(tmp_path)
    assert rows == [("cat", "1.png"), ("cat", "2.png"), ("dog", "1.png")]
    assert said.startswith("1 picture is in a sub-folder of a class, and read as that class: ")
    assert said.endswith(f"{Path('cat/2021/may/2.png')}.")


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "cat" / f"{number}.png", number * 77)
    for place in ("cat/notes.txt", "cat/a.json", "cat/.DS_Store", "cat/.old/x", "README.md"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("no picture")
    picture(tmp_path / "stray.png")
    picture(tmp_path / "cat" / "._1.png")
    picture(tmp_path / "__MACOSX" / "cat" / "1.png")
    rows, said = read(tmp_path)
    assert len(rows) == 3
    assert [sentence.partition(":")[0] for sentence in said] == [
        "2 files are no picture, and passed over",
        "4 files are hidden, and passed over",
        "2 files are beside the sub-folders, without a class, and passed over",
    ]
    assert "stray.png" in said[2] and "README.md" in said[2]


def test_pictures_that_metadata_do_not_name_are_counted(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "deep/c.JPG", "d.png"):
        picture(tmp_path / name, hash(name) % 256)
    lines = ["file_name,answer", "a.png,x", "./deep/../d.png,y"]
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    rows, said = read(tmp_path)
    assert [answer for answer, _ in rows] == ["x", "y"]
    (sentence,) = [one for one in said if "not named" in one]
    assert sentence.startswith("2 pictures are not named in ")
    assert sentence.endswith(": b.png, deep/c.JPG.")


def test_splits_are_no_classes(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            picture(tmp_path / split / name / "1.png")
    with pytest.raises(DemonstrationError, match=r"found splits \(test, train\).*Choose a split"):
        read(tmp_path)
    assert [answer for answer, _ in read(tmp_path / "train")[0]] == ["cat", "dog"]
    picture(tmp_path / "classes" / "train" / "1.png")
    picture(tmp_path / "classes" / "bus" / "1.png", "blue")
    assert [answer for answer, _ in read(tmp_path / "classes")[0]] == ["bus", "train"]


def test_one_folder_around_the_classes_is_no_class(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        picture(tmp_path / "images" / name / "1.png")
    with pytest.raises(DemonstrationError, match=r"one sub-folder only, images.*cat, dog.*give "):
        read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="the system has no links")
def test_links_are_followed_and_never_in_circles(tmp_path: Path) -> None:
    elsewhere = picture(tmp_path / "elsewhere" / "1.png").parent
    (tmp_path / "set" / "cat").mkdir(parents=True)
    (tmp_path / "set" / "dog").symlink_to(elsewhere)
    picture(tmp_path / "set" / "cat" / "2.png", "blue")
    (tmp_path / "set" / "cat" / "again").symlink_to(tmp_path / "set" / "cat")
    assert read(tmp_path / "set")[0] == [("cat", "2.png"), ("dog", "1.png")]
    (tmp_path / "set" / "cat" / "gone.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(DemonstrationError, match=r"gone\.png: a link that leads nowhere"):
        read(tmp_path / "set")


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "cat" / "1.png")
    (tmp_path / "cat" / "shut").mkdir()
    whole = Path.iterdir

    def refuse(path: Path):
        if path.name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DemonstrationError, match=r"cat.shut, found a folder .*Permission denied"):
        read(tmp_path)
    with pytest.raises(DemonstrationError, match="found a folder that cannot be read"):
        read(tmp_path / "cat" / "shut")
