"""What must stay light to import stays light, and the public names are there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tasm
from tests.own_process import run_python

HEAVY = ("torch", "transformers", "matplotlib", "sklearn", "pyarrow", "datasets", "scipy")


def loaded_after(*steps: str) -> list[tuple[str, list[str]]]:
    """Run the steps in one fresh interpreter; each with the heavy packages loaded after it."""
    code = "import json, sys\n"
    for step in steps:
        code += (
            f"try:\n    {step}\n"
            "except SystemExit as left:\n    assert not left.code, left.code\n"
            f"print('loaded', json.dumps([name for name in {HEAVY!r} if name in sys.modules]))\n"
        )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("loaded ")]
    return [
        (step, json.loads(line.removeprefix("loaded ")))
        for step, line in zip(steps, lines, strict=True)
    ]


def test_imports_without_torch() -> None:
    steps = [
        "import tasm",
        "import tasm.demonstrations",
        "tasm.read_demonstrations([{'question': 'a', 'answer': 'b'}])",
        "import tasm.compress.recipes.table",
        "import tasm.suites.suites",
    ]
    *found, probe = loaded_after(*steps, "import scipy")
    assert found == [(step, []) for step in steps]
    assert probe == ("import scipy", ["scipy"])


def test_commands_without_torch() -> None:
    commands = [["--help"], ["build", "--help"], ["suite", "--help"], ["recipes"], ["models"]]
    steps = [
        f"from tasm.cli import main; sys.argv[1:] = {command!r}; main()" for command in commands
    ]
    assert loaded_after(*steps) == [(step, []) for step in steps]


@pytest.mark.parametrize("name", tasm.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(tasm, name) is not None
    assert name in dir(tasm)


def test_a_room_that_loads_its_names_late_has_them_all() -> None:
    names: dict[str, object] = {}
    exec("from tasm.backbone import *", names)
    assert {"MemoryCache", "attach", "detach", "Layout", "UNUSED"} <= names.keys()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'tasm' has no attribute 'biuld'"):
        tasm.biuld  # noqa: B018


def test_build_can_be_called_whatever_was_imported_before() -> None:
    anew = "import sys\nfor name in [*sys.modules]:\n    if name.startswith('tasm'):\n"
    anew += "        del sys.modules[name]\n"
    for before in ("pass", "import tasm.compress.recipes.table", "from tasm import build"):
        code = f"{anew}{before}\nimport tasm\nassert callable(tasm.build), tasm.build"
        assert run_python(code, Path()) == (0, "")
