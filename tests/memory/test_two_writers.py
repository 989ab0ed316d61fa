"""Processes that write to one memory at once, and others that read it meanwhile: changes don't mix,
none is lost, and readers always find a whole memory."""

import os
import time
from collections.abc import Callable

import pytest

import tasm
from tasm.errors import InputError, WorkError
from tests.memory.memories import task_memory
from tests.memory.test_files import assert_same

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
PICTURES = {"e" * 64: b"\xff\xd8\xff" + bytes(200)}


def together(*tasks: Callable[[], None]) -> None:
    """Run each in a process of its own, all at once; each must come to its end."""
    read, write = os.pipe()
    children = []
    for task in tasks:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(write)
                os.read(read, 1)  # until all are there
                task()
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    os.close(read)
    os.close(write)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * len(tasks)


def changed(memory: tasm.TaskMemory, number: int) -> tasm.TaskMemory:
    """The memory with one more word in its report."""
    words = [*memory.report.get("words", []), number]
    return memory.replaced(report={**memory.report, "words": words})


def test_no_change_is_lost_or_mixed(tmp_path):
    """Each of four processes makes five changes; where another was quicker, it opens it again."""
    place = tmp_path / "m.tasm"
    task_memory().save(place, pictures=PICTURES)
    refused = tmp_path / "refused"

    def write(who: int) -> None:
        for turn in range(5):
            while True:
                memory = tasm.load(place)
                try:
                    changed(memory, 10 * who + turn).save(
                        place, overwrite=True, pictures=PICTURES, replacing=memory.digest
                    )
                    break
                except WorkError as error:
                    assert "nother process" in str(error)
                    with open(refused, "a") as file:
                        file.write(".")
                    time.sleep(0.002)

    def read() -> None:
        seen = 0
        while seen < 20:
            memory = tasm.load(place)
            memory.check_all()
            assert len(memory.report.get("words", [])) >= seen
            seen = len(memory.report.get("words", []))

    together(*(lambda who=who: write(who) for who in range(4)), read, read)
    words = tasm.load(place).report["words"]
    assert sorted(words) == sorted(10 * who + turn for who in range(4) for turn in range(5))
    assert all(
        [w for w in words if w // 10 == who] == sorted(w for w in words if w // 10 == who)
        for who in range(4)
    )
    assert len(refused.read_text()) > 3  # they did meet
    assert_same(
        tasm.load(place).replaced(report={}, demonstrations=()),
        task_memory().replaced(report={}, demonstrations=()),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tasm", "refused"]
    assert len(list(place.rglob("*"))) == 5  # manifest, core, bank, pictures, one picture


def test_of_two_first_writers_one_is_told(tmp_path):
    """Six processes save to a place where nothing is: one memory is there, whole, and one's own."""
    place = tmp_path / "m.tasm"

    def write(who: int) -> None:
        memory = changed(task_memory(seed=who), who)
        for _ in range(5):
            try:
                memory.save(place)
                (tmp_path / f"done-{who}").touch()
            except (InputError, WorkError) as error:
                assert "m.tasm" in str(error) and "\n" not in str(error)

    together(*(lambda who=who: write(who) for who in range(6)))
    done = [path.name for path in tmp_path.iterdir() if path.name.startswith("done-")]
    assert len(done) == 1
    memory = tasm.load(place)
    memory.check_all()
    assert done == [f"done-{memory.report['words'][0]}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*done, "m.tasm"]


def test_pictures_that_another_process_took_away_are_no_damage(tmp_path):
    place = tmp_path / "m.tasm"
    task_memory().save(place, pictures=PICTURES)
    opened = tasm.load(place)
    task_memory(seed=1).save(place, overwrite=True, pictures={})
    with pytest.raises(WorkError, match="changed by another process since it was opened"):
        opened.check_all()
    assert_same(opened.replaced(demonstrations=()), task_memory().replaced(demonstrations=()))
