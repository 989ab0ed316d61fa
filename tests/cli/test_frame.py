"""The frame: errors become a sentence and an exit code, results one document."""

import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from tasm import errors
from tasm.cli.frame import Result, command, to_json
from tests.own_process import run_python


def leave(function: Callable[[], Any], **options: Any) -> int:
    """The exit code of a command that does what `function` does."""

    def body(json: bool = False) -> Result:
        return function()

    try:
        command(body)(**options)
    except typer.Exit as left:
        return int(left.exit_code)
    return 0


def raising(error: BaseException) -> Callable[[], Result]:
    def body() -> Result:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.InputError("The question is missing."), 2, "The question is missing."),
        (errors.MismatchError("Another model's memory."), 2, "Another model's memory."),
        (errors.DamageError("core.safetensors is damaged."), 1, "core.safetensors is damaged."),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "The disk is full"),
        (OSError(errno.EDQUOT, "Quota", "/here/x"), 1, "/here/x"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/here"),
            1,
            "/here: Permission denied",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "/gone"), 2, "/gone: No such file"),
        (OSError(errno.EIO, "Input/output error"), 1, "The system refused (Input/output error)"),
        (MemoryError(), 1, "not enough memory"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (ValueError("a strange thing\nand more"), 1, "ValueError: a strange thing\n"),
    ],
)
def test_an_error_is_a_sentence_and_a_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(raising(error)) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert "Traceback" not in printed.err


def test_an_unexpected_error_says_how_to_see_where(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert leave(raising(RuntimeError("odd"))) == 1
    assert "TASM_DEBUG=1" in capsys.readouterr().err
    monkeypatch.setenv("TASM_DEBUG", "1")
    assert leave(raising(RuntimeError("odd"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_text_for_people_and_one_document_for_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def body() -> Result:
        print("a library says hello")
        return Result({"accuracy": math.nan, "of": [1, math.inf]}, "Half of them.")

    assert leave(body, json=False) == 0
    assert capsys.readouterr().out == "a library says hello\nHalf of them.\n"
    assert leave(body, json=True) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"accuracy": None, "of": [1, None]}
    assert "a library says hello" in printed.err


def test_a_check_that_did_not_hold_says_so_and_keeps_its_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = Result({"intact": False}, "table", exit_code=1, complaint="The core is damaged.")
    assert leave(lambda: result, json=True) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"intact": False}
    assert printed.err == "The core is damaged.\n"


def test_json_keeps_every_letter() -> None:
    assert to_json({"answer": "größer 東京"}) == '{"answer": "größer 東京"}'


def test_a_reader_who_leaves_is_no_error() -> None:
    """`tasm models | head -1`: no traceback, nothing on standard error."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "tasm", "models"], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_an_output_that_is_full_is_said_once() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tasm", "models", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The disk is full")
    assert len(done.stderr.splitlines()) == 1


def test_an_interrupted_process_leaves_with_130() -> None:
    """A real signal, while the command reads its input."""
    code = (
        "import os, signal, sys, time, tasm.demonstrations as room\n"
        # Where the tests run in the background, the signal may arrive ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def read(*given, **more):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
        "room.read_demonstrations = read\n"
        "sys.argv = ['tasm', 'build', 'd.jsonl', '--model', 'm', '--out', 'gone/m.tasm']\n"
        "sys.stdout = open(os.devnull, 'w')\n"  # what is said goes to standard error
        "from tasm.cli import main\n"
        "main()\n"
    )
    assert run_python(code, Path()) == (130, "Interrupted.\n")
