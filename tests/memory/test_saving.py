"""Where a memory cannot be saved, a sentence before the work; after a kill, no litter."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

import tasm
from tasm import files
from tasm.errors import InputError, WorkError
from tasm.files import writing
from tests.memory.memories import task_memory
from tests.memory.test_files import assert_same, listing
from tests.own_process import run_python

Usage = namedtuple("Usage", "total used free")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "expected the path"),
        ("  ", "expected the path"),
        (5, "is 5; expected the path"),
        (None, "is None; expected the path"),
        (b"x.tasm", "is a bytes; expected the path"),
        ("a\0b", "expected the path"),
        ("\ud800.tasm", "characters that no file name can have"),
        (".", "no name of its own"),
        ("..", "no name of its own"),
        ("/", "no name of its own"),
        ("/proc/x.tasm", "cannot be written: No such file.*Choose another place"),
        ("/proc/new/x.tasm", "cannot be written"),
        ("n" * 300, "File name too long"),
        ("n" * 300 + "/x.tasm", "File name too long"),
        ("new/" + "n" * 300 + "/x.tasm", "File name too long"),
        ("d/" * 3000 + "x.tasm", "File name too long"),
        ("note.txt", "note.txt.*is not a folder|exists"),
        ("note.txt/x.tasm", "note.txt is no folder|Not a directory"),
        ("loop/x.tasm", "symbolic links|cannot be written"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, path, said
):
    monkeypatch.chdir(tmp_path)
    Path("note.txt").write_text("precious")
    Path("loop").symlink_to("loop")
    before = sorted(Path().iterdir())
    for overwrite in (False, True):
        with pytest.raises(InputError, match=said):
            task_memory().save(path, overwrite=overwrite)
    assert sorted(Path().iterdir()) == before
    assert Path("note.txt").read_text() == "precious"


def test_a_name_of_the_greatest_length_is_possible(tmp_path):
    place = tmp_path / ("ä" * 127)
    task_memory().save(place)
    task_memory(seed=1).save(place, overwrite=True)
    assert_same(tasm.load(place), task_memory(seed=1))
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("change", [False, True], ids=["new", "changed"])
def test_too_little_room_is_said_before_anything_is_written(tmp_path, monkeypatch, change):
    place = tmp_path / "new" / "m.tasm"
    if change:
        task_memory().save(place)
    before = listing(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 3000))
    monkeypatch.setattr(files, "new_folder", None)
    with pytest.raises(WorkError, match=r"needs [\d,]+ bytes.* has 3,000 left. Free"):
        task_memory(seed=1).save(place, overwrite=change)
    with pytest.raises(WorkError, match="needs 5,000,000,000 bytes"):
        files.check_writable(tmp_path / "new.tasm", 5_000_000_000)
    assert listing(tmp_path) == before
    assert change == place.exists()


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path):
    files.check_writable(tmp_path / "a" / "b" / "m.tasm", 1000)
    files.check_writable(str(tmp_path / "page.html"))
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- leftovers


def test_leftovers_of_killed_writers_go_and_those_of_live_ones_stay(tmp_path):
    place = tmp_path / "m.tasm"
    dead = tmp_path / ".m.tasm.0123abcd.partial"
    dead.mkdir()
    (dead / "core.partial").write_bytes(b"half")
    other = tmp_path / ".n.tasm.0123abcd.partial"
    other.mkdir()
    mine = tmp_path / ".m.tasm.notes.partial"
    mine.write_text("somebody's own")
    live = tmp_path / ".m.tasm.89abcdef.partial"
    live.mkdir()
    with files.writer_lock(live):
        task_memory().save(place)
    assert sorted(tmp_path.iterdir()) == sorted([place, other, mine, live])
    dead.mkdir()
    task_memory(seed=1).save(place, overwrite=True)
    assert sorted(tmp_path.iterdir()) == sorted([place, other, mine])


def test_a_writer_whose_folder_is_swept_before_it_was_locked_makes_another(tmp_path, monkeypatch):
    real, swept = writing.open_locked, []

    def sweep_first(path, *, wait):
        if wait and not swept:
            swept.append(path)
            path.rmdir()
        return real(path, wait=wait)

    monkeypatch.setattr(writing, "open_locked", sweep_first)
    task_memory().save(tmp_path / "m.tasm")
    assert swept and [path.name for path in tmp_path.iterdir()] == ["m.tasm"]


# Killed before each call that changes what lies on the disk.
KILLER = """
import os, signal, sys
from tests.memory.memories import task_memory
place = sys.argv[1]
count = 0
def counted(name):
    real = getattr(os, name)
    def call(*arguments, **named):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)
    return call
memory = task_memory(seed=1)
for at in range(1, int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        for name in ("mkdir", "fsync", "replace", "rename", "unlink"):
            setattr(os, name, counted(name))
        count = 0
        memory.save(f"{place}/{at}/m.tasm", overwrite=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(at, "killed" if os.WIFSIGNALED(status) else "done", flush=True)
"""


@pytest.mark.parametrize("change", [False, True], ids=["new", "changed"])
def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new_memory(tmp_path, change):
    """Killed before each call that changes the disk in turn; the next save leaves no litter."""
    points = 20
    for at in range(1, points):
        (tmp_path / str(at)).mkdir()
        if change:
            task_memory().save(tmp_path / str(at) / "m.tasm")
    code, printed = run_python(KILLER, ROOT, [str(tmp_path), str(points)])
    assert code == 0, printed
    done = printed.split()
    assert done.count("killed") > 6 and done[-1] == "done"  # and the last ones came to their end
    littered = 0
    for at in range(1, points):
        place = tmp_path / str(at) / "m.tasm"
        littered += len(list(place.parent.rglob("*.partial"))) > 0
        if place.exists():
            memory = tasm.load(place)
            memory.check_all()
            assert_same(memory, task_memory(seed=int(memory.core[0].keys[0, 0, 0] != OLD)))
        else:
            assert not change
        task_memory(seed=2).save(place, overwrite=True)
        assert_same(tasm.load(place), task_memory(seed=2))
        assert [path.name for path in place.parent.iterdir()] == ["m.tasm"]
        assert len(list(place.iterdir())) == 3
    assert littered > 3


OLD = task_memory().core[0].keys[0, 0, 0]
