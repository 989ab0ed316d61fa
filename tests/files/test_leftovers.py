"""Pages and folders that a killed writer left half-written are removed by the next one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasm.files import new_folder, whole_folder, write_text

KILLED = """
import os, sys
from pathlib import Path
from tasm.files import {writer}
import tasm.files.writing as writing

os.replace = os.rename = lambda *places: os._exit(9)       # killed just before it is put in place
out = Path(sys.argv[1])
{call}
"""
WAYS = {
    "page": ("write_text", 'write_text(out, "half")'),
    "suite": ("whole_folder", 'with whole_folder(out, "mark") as f: (f / "mark").write_text("a")'),
    "memory": ("new_folder", 'with new_folder(out) as f: (f / "mark").write_text("a")'),
}


@pytest.mark.skipif(os.name == "nt", reason="no file locks")
@pytest.mark.parametrize("way", WAYS)
def test_the_next_writer_removes_what_a_killed_one_left(way: str, tmp_path: Path) -> None:
    writer, call = WAYS[way]
    out = tmp_path / "folder" / "out"
    script = KILLED.format(writer=writer, call=call)
    assert subprocess.run([sys.executable, "-c", script, str(out)], check=False).returncode == 9
    assert [path.name for path in out.parent.iterdir() if path.name.endswith(".partial")]
    if way == "page":
        write_text(out, "whole")
    else:
        opened = whole_folder(out, "mark") if way == "suite" else new_folder(out)
        with opened as folder:
            (folder / "mark").write_text("whole")
    assert list(out.parent.iterdir()) == [out]


def test_a_folder_is_replaced_whole_and_comes_back_where_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "suite"
    for text in ("first", "second"):
        with whole_folder(out, "mark") as folder:
            (folder / "mark").write_text(text)
        assert (out / "mark").read_text() == text
    rename = os.rename

    def fails_for_the_new_one(source: Path, target: Path) -> None:
        if Path(target) == out and (Path(source) / "mark").read_text() == "third":
            raise OSError(5, "Input/output error", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails_for_the_new_one)
    with (
        pytest.raises(Exception, match="suite could not be written: Input/output error"),
        whole_folder(out, "mark") as folder,
    ):
        (folder / "mark").write_text("third")
    assert (out / "mark").read_text() == "second"
    assert list(tmp_path.iterdir()) == [out]
