"""Code and commands in a process of their own, forked from one that has imported what takes long.

A clean interpreter imports torch, transformers and tasm once a test run; each call is a fork of it,
so that it starts in milliseconds and not in seconds. That takes a process of one thread, to which
tests/conftest.py sees. What starting itself costs and imports is tested in
tests/project/test_imports.py and tests/cli/test_process.py.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

IMPORTED = [
    "torch",
    "transformers",
    "transformers.models.qwen2_vl.modeling_qwen2_vl",
    "transformers.models.qwen2_vl.image_processing_qwen2_vl",
    "tasm.answer",
    "tasm.check",
    "tasm.cli.app",
    "tasm.compress.api",
    "tasm.memory",
    "tasm.view.thumbnails",
]
LONGEST = 600.0
"""Seconds after which a process is ended, and the test with it."""


def run_python(code: str, folder: Path, arguments: Sequence[str] = ()) -> tuple[int, str]:
    """Run code as `python -c CODE ARGUMENTS…` would; returns the exit code (less than zero: the
    signal) and all that was printed, standard error too."""
    return _run(code, ["-c", *arguments], folder)


def run_tasm(words: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run `tasm WORDS…`, as `run_python`."""
    return _run("from tasm.cli import main\nmain()\n", ["tasm", *words], folder)


def _run(code: str, words: list[str], folder: Path) -> tuple[int, str]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with tempfile.NamedTemporaryFile("rb") as file:
        given = (code, words, str(folder), file.name, dict(os.environ))
        process = context.Process(target=_own, args=given)
        process.start()
        process.join(LONGEST)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"still running after {LONGEST} s\n{file.read().decode()}")
        return process.exitcode, file.read().decode()


def _own(
    code: str, words: list[str], folder: str, printed: str, environment: dict[str, str]
) -> None:
    out, nothing = os.open(printed, os.O_WRONLY | os.O_APPEND), os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(old, new)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    sys.path.insert(0, "")
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
