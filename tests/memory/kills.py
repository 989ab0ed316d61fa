"""Commands that are killed while they write, in a process of their own; and what is found then.

`python -m tests.memory.kills --moments 100` kills each command before every step that changes the
disk, and at a hundred moments more.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import tasm
from tests.cli.conftest import colour_rows, write_rows
from tests.tiny_folders import tiny_folder

INDEPENDENT = [
    "--mode",
    "independent",
    "--core",
    "60%",
    "--recipe",
    "snapkv",
    "--model",
    "../model",
]
COMMANDS: dict[str, tuple[str, list[str]]] = {
    "build": ("new.tasm", ["build", "d.jsonl", *INDEPENDENT, "--out", "new.tasm"]),
    "build over": ("a.tasm", ["build", "e.jsonl", *INDEPENDENT, "--out", "a.tasm", "--overwrite"]),
    "add": ("a.tasm", ["add", "a.tasm", "e.jsonl"]),
    "remove": ("a.tasm", ["remove", "a.tasm", "r2"]),
    "merge": ("new.tasm", ["merge", "a.tasm", "b.tasm", "--out", "new.tasm"]),
    "pack": ("new.tasm", ["pack", "a.tasm", "--out", "new.tasm"]),
    "pack over": ("b.tasm", ["pack", "a.tasm", "--out", "b.tasm", "--overwrite"]),
}
STEPS = ("mkdir", "fsync", "replace", "rename", "unlink", "rmdir", "open")


@dataclass
class Scene:
    """A folder with a model, rows and two memories, as every command finds it, and as it leaves it.

    Attributes:
        work: holds `model`, `scene` (never changed) and `now` (where commands run).
        after: the digest of what a command writes when nothing disturbs it.
        seconds, steps: how long it takes then, and how often it changes the disk.
    """

    work: Path
    after: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    @classmethod
    def made(cls, work: Path) -> "Scene":
        scene = work / "scene"
        scene.mkdir()
        tiny_folder("qwen2_vl", work / "model")
        rows = [row | {"id": f"r{number}"} for number, row in enumerate(colour_rows(scene)[:5])]
        write_rows(scene / "d.jsonl", rows[:3])
        write_rows(scene / "e.jsonl", rows[3:])
        made = cls(work)
        for name, given in (("a.tasm", "d.jsonl"), ("b.tasm", "e.jsonl")):
            made._run_here(scene, ["build", given, *INDEPENDENT, "--out", name])
        for name, (target, words) in COMMANDS.items():
            made.reset()
            started = time.perf_counter()
            steps = made._run_here(made.now, words)
            made.seconds[name] = time.perf_counter() - started
            made.steps[name] = steps
            made.after[name] = str(tasm.load(made.now / target).digest)
        return made

    @property
    def now(self) -> Path:
        return self.work / "now"

    def reset(self) -> None:
        shutil.rmtree(self.now, ignore_errors=True)
        shutil.copytree(self.work / "scene", self.now)

    def _run_here(self, folder: Path, words: list[str]) -> int:
        """Run a command to its end in a process of its own; returns its steps."""
        read, write = os.pipe()
        child = start(folder, words, report=write)
        os.close(write)
        with os.fdopen(read) as said:
            steps = said.read()
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, (self.work / "said").read_text()
        return int(steps)

    def killed(self, name: str, *, step: int | None = None, after: float | None = None) -> str:
        """Kill a command before a step or after some seconds; returns what was found: "old", "new"
        or "none", with "littered" where the killed one left something.

        Raises AssertionError where there is anything but the old or the new memory, or something
        stays when the next writer has been there.
        """
        target, words = COMMANDS[name]
        self.reset()
        before = listing(self.now)
        child = start(self.now, words, kill_at=step)
        if after is not None:
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        place, old = self.now / target, self.work / "scene" / target
        others = {one: data for one, data in listing(self.now).items() if not of(one, target)}
        expected = {one: data for one, data in before.items() if not of(one, target)}
        assert others == expected, (name, step, after, set(others) ^ set(expected))
        if place.exists():
            memory = tasm.load(place)
            memory.check_all()
            digests = {self.after[name]: "new"}
            if old.exists():
                digests[str(tasm.load(old).digest)] = "old"
            assert memory.digest in digests, (name, step, after)
            found = digests[memory.digest]
        else:
            assert not old.exists(), (name, step, after, "gone")
            found = "none"
        littered = any(one.endswith(".partial") for one in everything(self.now))
        tasm.load(self.work / "scene" / "a.tasm").save(place, overwrite=True)
        left = {one for one in everything(self.now) if of(one, target)}
        whole = {f"{target}/{path.name}" for path in place.iterdir()}
        pictures = {f"{target}/pictures/{path.name}" for path in (place / "pictures").iterdir()}
        assert left == {target} | whole | pictures, (name, step, after, left)
        assert len(whole) == 3 and len(pictures) == 3, (name, step, after, left)  # 3 pictures
        tasm.load(place).check_all()
        return f"{found}, littered" if littered else found


def of(name: str, target: str) -> bool:
    """Whether a path is of a memory's folder, or of what its writers leave beside it."""
    return name.split("/")[0] == target or name.startswith(f".{target}.")


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def listing(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def start(
    folder: Path, words: list[str], *, kill_at: int | None = None, report: int | None = None
) -> int:
    """Run `tasm WORDS` in a child that shares what is imported here; returns its process id.

    It kills itself before step number `kill_at`, or writes the number of its steps to `report`.
    """
    from tasm.cli.app import app

    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.chdir(folder)
        said = os.open(folder.parent / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        count = [0]
        for name in STEPS:
            setattr(os, name, _counted(name, count, kill_at))
        try:
            app(words, prog_name="tasm")
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
        if report is not None:
            os.write(report, str(count[0]).encode())
    finally:
        os._exit(code)


def _counted(name: str, count: list[int], kill_at: int | None) -> Callable[..., object]:
    real = getattr(os, name)

    def call(*given: object, **named: object) -> object:
        flags = given[1] if name == "open" and len(given) > 1 else os.O_CREAT
        if isinstance(flags, int) and flags & os.O_CREAT:
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as work:
        scene = Scene.made(Path(work))
        for name in COMMANDS:
            steps = Counter(scene.killed(name, step=one + 1) for one in range(scene.steps[name]))
            longest = 1.2 * scene.seconds[name]
            moments = Counter(
                scene.killed(name, after=rng.uniform(0, longest)) for _ in range(given.moments)
            )
            print(f"{name}: steps {dict(steps)}, moments {dict(moments)}", flush=True)


if __name__ == "__main__":
    main()
