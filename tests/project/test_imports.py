"""What must stay light to import stays light, and the public names are there."""

import json
import subprocess
import sys

import pytest

import tasm

HEAVY = ("torch", "transformers", "matplotlib", "sklearn", "pyarrow", "datasets", "scipy")


def loaded_after(code: str, *arguments: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after `code`."""
    report = (
        "import json, sys\n"
        f"sys.argv[1:] = {list(arguments)!r}\n"
        "try:\n"
        + "".join(f"    {line}\n" for line in code.splitlines())
        + "except SystemExit: pass\n"
        f"print('loaded', json.dumps([name for name in {HEAVY!r} if name in sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.rpartition("loaded ")[2]))


def test_the_probe_sees_torch() -> None:
    assert "torch" in loaded_after("import torch")


@pytest.mark.parametrize(
    "code",
    [
        "import tasm",
        "import tasm.demonstrations",
        "import tasm; tasm.read_demonstrations([{'question': 'a', 'answer': 'b'}])",
        "import tasm.build.recipes",
        "import tasm.reference.suites",
    ],
)
def test_imports_without_torch(code: str) -> None:
    assert loaded_after(code) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["build", "--help"],
        ["recipes"],
        ["models"],
        ["recipes", "--json"],
        ["suite", "--help"],
    ],
)
def test_commands_without_torch(arguments: list[str]) -> None:
    assert loaded_after("from tasm.cli import main; main()", *arguments) == set()


@pytest.mark.parametrize("name", tasm.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(tasm, name) is not None
    assert name in dir(tasm)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'tasm' has no attribute 'biuld'"):
        tasm.biuld  # noqa: B018


def test_build_can_be_called_whatever_was_imported_before() -> None:
    for before in ("pass", "import tasm.build.recipes", "from tasm import build"):
        code = f"{before}\nimport tasm\nassert callable(tasm.build), tasm.build"
        subprocess.run([sys.executable, "-c", code], check=True)
