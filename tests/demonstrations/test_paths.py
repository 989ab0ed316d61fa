"""A path that holds no demonstrations is refused by what lies there instead."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasm.demonstrations import read_demonstrations, read_queries
from tasm.errors import DemonstrationError

ROW = '{"question": "Which?", "answer": "wren"}\n'


def refused(source: Any) -> str:
    with pytest.raises(DemonstrationError) as raised:
        read_demonstrations(source)
    assert raised.value.exit_code == 2
    return str(raised.value)


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "gone.jsonl")
    assert (
        refused(tmp_path / "loop") == f"{tmp_path / 'loop'}: found a link that leads back to "
        "itself."
    )
    said = refused(tmp_path / "dangling.jsonl")
    assert said.endswith(f"found a link to '{tmp_path / 'gone.jsonl'}', which does not exist.")


def test_links_that_lead_somewhere(tmp_path: Path) -> None:
    (tmp_path / "real" / "cat").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "real" / "cat" / "1.png")
    (tmp_path / "set").symlink_to(tmp_path / "real")
    (one,) = read_demonstrations(tmp_path / "set", question="?")
    assert one.answer == "cat"
    (tmp_path / "real" / "rows.jsonl").write_text(ROW)
    assert len(read_demonstrations(tmp_path / "set" / "rows.jsonl")) == 1


@pytest.mark.parametrize("name", ["/dev/null", "/dev/zero", "/dev/urandom"])
@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="the system has no such devices")
def test_devices_are_not_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(name)
    for source in (name, tmp_path / "a.jsonl"):
        assert "found a device or a pipe" in refused(source)
    row = {"image": name, "question": "Which?", "answer": "wren"}
    assert "something that is not a plain file" in refused([row])


def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text(ROW)

    def refuse(path: Path, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    for method in ("open", "stat"):
        with monkeypatch.context() as patched:
            patched.setattr(Path, method, refuse)
            assert "a.jsonl cannot be read: Permission denied." in refused(tmp_path / "a.jsonl")


@pytest.mark.parametrize("given", ["", " ", "\n"])
def test_an_empty_path_is_not_the_current_folder(given: str) -> None:
    assert "found an empty path" in refused(given)


def test_a_question_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(ROW)
    for question in ("", "  ", 3, ["?"]):
        with pytest.raises(DemonstrationError, match=r"question: found .* expected a string"):
            read_demonstrations(tmp_path / "a.jsonl", question=question)


def test_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "a.jsonl").write_text(ROW)
    assert len(read_demonstrations("~/a.jsonl")) == 1
    assert "No such file or folder: '~nobody-of-that-name/a.jsonl'" in refused(
        "~nobody-of-that-name/a.jsonl"
    )


def test_a_file_address(tmp_path: Path) -> None:
    (tmp_path / "a b.jsonl").write_text(ROW)
    assert len(read_demonstrations((tmp_path / "a b.jsonl").as_uri())) == 1


FILES = [
    ("a.json", b'{"data": [{"question": "A?", "answer": "x"}]}', "in 'data': save that list alone"),
    ("a.json", b'{"question": "A?", "answer": "x"}', "Put the one object into a list"),
    ("a.json", b"NaN", "found a number (nan); expected a list"),
    ("a.jsonl", b'{"question": "A?", "answer": NaN}', "field 'answer': found a number (nan)"),
    ("a.jsonl", b'{"question": "A?", "answer": "x"}{', "line 1, found no JSON"),
    ("a.jsonl", b'["A?", "x"]', "line 1, found a list; expected an object"),
    ("a.jsonl", b'{"a":' * 100_000, "too deeply nested"),
    ("a.jsonl", b"[" * 100_000 + b"]" * 100_000, "too deeply nested"),
    ("a.json", ("\ufeff" + ROW).encode("utf-16-le"), "text in UTF-16"),
    ("a.json", ("\ufeff" + ROW).encode("utf-16-be"), "text in UTF-16"),
    ("a.csv", "question,answer\nOù?,là\n".encode("latin-1"), "line 2: found the byte 0xf9"),
    ("a.csv", b'question,answer\n"A?"x,y\n', "found no CSV"),
    ("a.csv", b"question,answer\rA?\r", "line 2, found 1 cells; expected 2"),
    ("a.csv", b"\xef\xbb\xbf\n\n", "found no rows to use"),
    ("a.csv", b"a.png,Which?,wren\nb.png,Which?,crow\n", "the names of the columns are expected"),
    ("a.tsv", b"question\tanswer\n", "ends in '.tsv'"),
    ("rows", b"", "whose name has no ending"),
    ("a.arrow", b"ARROW1 and no more", "found a file that is no Arrow file"),
    ("a.arrow", b"", "found a file that is no Arrow file"),
    ("a.parquet", b"", "found a file that is no Parquet"),
]


@pytest.mark.parametrize(("name", "content", "said"), FILES)
def test_files_that_hold_something_else(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    for read in (read_demonstrations, read_queries):
        with pytest.raises(DemonstrationError) as raised:
            read(tmp_path / name)
        assert said in str(raised.value)


def test_a_cell_may_hold_a_whole_picture(tmp_path: Path) -> None:
    import base64
    import io

    import numpy as np

    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, format="PNG")
    address = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    assert len(address) > 131_072  # the csv module's own limit
    (tmp_path / "a.csv").write_text(f'image,question,answer\n"{address}",A?,x\n')
    (one,) = read_demonstrations(tmp_path / "a.csv")
    assert np.array_equal(np.asarray(one.pictures[0].load()), noise)


def test_many_threads_read_one_file(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    (tmp_path / "a.csv").write_text("image,question,answer\n1.png,A?,x\n")
    read: list[int] = []
    threads = [
        threading.Thread(target=lambda: read.append(len(read_demonstrations(tmp_path / "a.csv"))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [1] * 8


def test_spaces_after_commas_are_for_the_eye(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question, answer\n"One, two?", "a ""b"""\nB?, c d\n')
    read = read_demonstrations(tmp_path / "a.csv")
    assert [(one.question, one.answer) for one in read] == [("One, two?", 'a "b"'), ("B?", "c d")]
    (tmp_path / "a.csv").write_text("question,answer\nB?, c\n")
    assert read_demonstrations(tmp_path / "a.csv")[0].answer == " c"


def test_a_chat_in_a_cell(tmp_path: Path) -> None:
    chat = (
        '[{""role"": ""user"", ""content"": ""A?""}, {""role"": ""assistant"", ""content"": ""b""}]'
    )
    (tmp_path / "a.csv").write_text(f'messages\n"{chat}"\n')
    assert read_demonstrations(tmp_path / "a.csv")[0].answer == "b"


def test_what_is_missing_names_what_may_be_meant(tmp_path: Path) -> None:
    assert "A single question is asked with ask(" in refused("Which bird is this?")
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    assert "1 picture lies in the folder itself" in refused(tmp_path)
    (tmp_path / "rows.parquet").touch()
    assert refused(tmp_path).endswith(f"Did you mean the file {tmp_path / 'rows.parquet'}?")
    said = refused([{"image": "A" * 3000, "question": "A?", "answer": "b"}])
    assert len(said) < 600
