"""Errors of writing name the path that the user gave, and leave nothing behind."""

import errno
import os
from pathlib import Path

import pytest

from tasm.errors import InputError, WorkError
from tasm.files import whole_folder, write_text
from tests.cli.conftest import Run


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc here")
@pytest.mark.parametrize("name", ["page.html", "folder/page.html"])
def test_a_place_where_nothing_can_be_made(name: str, run: Run, built: Path) -> None:
    place = f"/proc/{name}"
    ran = run("show", built / "memory.tasm", "--html", place)
    assert (ran.code, ran.out) == (2, "")
    assert f"{place} cannot be " in ran.err
    ran = run("suite", "bind", "--out", place)
    assert (ran.code, ran.out) == (2, "")
    assert f"{place} cannot be " in ran.err
    assert "/proc/." not in ran.err


def test_a_folder_where_a_file_goes(run: Run, built: Path, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    for more in ((), ("--overwrite",)):
        ran = run("show", built / "memory.tasm", "--html", tmp_path / "pages", *more)
        assert (ran.code, ran.out) == (2, "")
        assert f"{tmp_path / 'pages'} is a folder; expected" in ran.err
        assert "--html" in ran.err
    with pytest.raises(InputError, match="pages cannot be written: Is a directory"):
        write_text(tmp_path / "pages", "text")  # it came to be there after it was looked for
    assert list(tmp_path.iterdir()) == [tmp_path / "pages"]


def test_a_full_disk_is_said_of_the_users_path(
    run: Run, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ran = run("show", built / "memory.tasm", "--html", page)
    assert ran.code == 1
    assert f"The disk is full: {page} " in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_folders_errors_name_the_folder_unless_another_file_is_at_fault(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    with (
        pytest.raises(WorkError, match=f"disk is full: {out} .*No space"),
        whole_folder(out, "page") as folder,
    ):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "page"))
    with (
        pytest.raises(FileNotFoundError, match=r"font\.ttf"),
        whole_folder(out, "page"),
    ):
        (tmp_path / "font.ttf").read_bytes()
    assert list(tmp_path.iterdir()) == []
