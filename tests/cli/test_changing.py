"""`tasm add`, `tasm remove`, `tasm merge`: the document, what stays on disk, and every refusal."""

from pathlib import Path
from typing import Any

import pytest

import tasm
from tests.cli.conftest import Run, colour_rows, draw, write_rows

FIELDS = {"memory", "demonstrations", "added", "removed", "core_bytes", "bank_bytes"}


@pytest.fixture
def memory(run: Run, model: Path, tmp_path: Path) -> Path:
    """Four demonstrations, read independently."""
    demos = write_rows(tmp_path / "demos.jsonl", colour_rows(tmp_path)[:4])
    out = tmp_path / "m.tasm"
    ran = run("build", demos, "--model", model, "--mode", "independent", "--out", out, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["mode"] == "independent"
    return out


def ids(folder: Path) -> list[str]:
    return [one.id for one in tasm.load(folder).demonstrations]


def held(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def named(folder: Path) -> list[dict[str, Any]]:
    rows = colour_rows(folder)
    draw(folder / "purple.png", "purple")
    return [*rows, {"image": "purple.png", "question": "Which hue?", "answer": "mauve", "id": "p1"}]


def test_add_and_remove(run: Run, memory: Path, tmp_path: Path) -> None:
    before = ids(memory)
    more = write_rows(tmp_path / "more.jsonl", named(tmp_path))
    ran = run("add", memory, more, "--json")
    assert ran.code == 0, ran.err
    assert set(ran.json) == FIELDS
    assert (ran.json["demonstrations"], ran.json["added"], ran.json["removed"]) == (9, 5, 0)
    assert "4 demonstrations are in the memory already" in ran.err
    assert ids(memory)[:4] == before and ids(memory)[-1] == "p1"
    grown = tasm.load(memory)
    assert ran.json["core_bytes"] == grown.core_bytes
    assert len(grown.thumbnails()) == 9
    picture = grown.demonstrations[-1].pictures[0].sha256
    traces = [b"Which hue?", b"mauve", b'"p1"', picture.encode(), grown.thumbnails()[picture]]
    assert all(trace in held(memory) for trace in traces)
    ran = run("remove", memory, "p1", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["demonstrations"], ran.json["removed"]) == (8, 1)
    assert not any(trace in held(memory) for trace in traces)
    assert not list((memory / "pictures").glob(f"{picture}*"))
    for command in (["ask", memory, "--question", "What colour?"], ["show", memory]):
        ran = run(*command)
        assert ran.code == 0, ran.err
    assert run("verify", memory).code == 0


def test_people_get_a_sentence(run: Run, memory: Path) -> None:
    ran = run("remove", memory, ids(memory)[2])
    assert ran.code == 0, ran.err
    assert "3 demonstrations (0 added, 1 removed)" in ran.out


def test_merge(run: Run, memory: Path, model: Path, tmp_path: Path) -> None:
    demos = write_rows(tmp_path / "more.jsonl", named(tmp_path)[5:])
    other, both = tmp_path / "o.tasm", tmp_path / "both.tasm"
    ran = run("build", demos, "--model", model, "--mode", "independent", "--out", other)
    assert ran.code == 0, ran.err
    ran = run("merge", memory, other, "--out", both, "--json")
    assert ran.code == 0, ran.err
    assert set(ran.json) == FIELDS and ran.json["demonstrations"] == 8
    assert ids(both) == [*ids(memory), *ids(other)]
    assert len(tasm.load(both).thumbnails()) == 8
    again = run("merge", memory, other, "--out", both)
    assert again.code == 2 and "exists already" in again.err
    alone = run("merge", memory, "--out", tmp_path / "x.tasm")
    assert alone.code == 2 and "two or more" in alone.err


def test_what_cannot_go_is_refused(run: Run, memory: Path, model: Path, tmp_path: Path) -> None:
    before = held(memory)
    first = ids(memory)[0]
    for wanted, sentence in (
        (first, "Others were read after"),
        ("nobody", "no demonstration 'nobody'"),
        (first[:-1] + "x", f"Did you mean '{first}'"),
    ):
        ran = run("remove", memory, wanted)
        assert ran.code == 2 and sentence in ran.err, ran.err
    demos = write_rows(tmp_path / "j.jsonl", colour_rows(tmp_path)[:3])
    joint = tmp_path / "j.tasm"
    assert run("build", demos, "--model", model, "--out", joint).code == 0
    ran = run("remove", joint, ids(joint)[1])
    assert ran.code == 2 and "--mode independent" in ran.err
    bad = write_rows(tmp_path / "bad.jsonl", [{"question": "?"}])
    assert run("add", memory, bad).code == 2
    assert run("add", tmp_path / "none.tasm", demos).code == 2
    assert held(memory) == before


def test_nothing_new_changes_nothing(run: Run, memory: Path, tmp_path: Path) -> None:
    before = held(memory)
    ran = run("add", memory, tmp_path / "demos.jsonl", "--json")
    assert ran.code == 0 and ran.json["added"] == 0
    assert held(memory) == before


def test_without_texts_none_come_in(run: Run, model: Path, tmp_path: Path) -> None:
    rows = named(tmp_path)
    demos = write_rows(tmp_path / "demos.jsonl", rows[:4])
    out = tmp_path / "m.tasm"
    build = ["build", demos, "--model", model, "--mode", "independent", "--out", out]
    assert run(*build, "--no-demonstrations").code == 0
    more = write_rows(tmp_path / "more.jsonl", rows[8:])
    ran = run("add", out, more)
    assert ran.code == 0, ran.err
    assert ids(out)[-1] == "p1"
    assert b"mauve" not in held(out) and b"Which hue?" not in held(out)
    assert not tasm.load(out).thumbnails()


def test_a_change_made_meanwhile_is_not_lost(memory: Path, tmp_path: Path) -> None:
    loaded = tasm.load_model(tasm.load(memory).model_name)
    mine, theirs = tasm.load(memory), tasm.load(memory)
    first, second = ids(memory)[1:3]
    tasm.remove(theirs, loaded, [first]).save(memory, overwrite=True, replacing=theirs.digest)
    changed = tasm.remove(mine, loaded, [second])
    with pytest.raises(tasm.errors.WorkError, match="changed by another process meanwhile"):
        changed.save(memory, overwrite=True, replacing=mine.digest)
    assert first not in ids(memory) and second in ids(memory)


def test_another_model_is_refused(run: Run, memory: Path, other_model: Path) -> None:
    before = held(memory)
    ran = run("remove", memory, ids(memory)[1], "--model", other_model)
    assert ran.code == 2, ran.err
    assert held(memory) == before
