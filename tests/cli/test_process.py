"""The command as a process: signals, closed and full outputs, encodings, completion, imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import own_process
from tests.cli.conftest import Run
from tests.own_process import run_python

TASM = [sys.executable, "-m", "tasm"]


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_leaves_nothing_half_written(name: str, code: int, tmp_path: Path) -> None:
    """It comes while the files are written, into a folder that has another name until the end."""
    program = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # nohup leaves it ignored
        "import tasm.suites.suites as room\n"
        "def write(name, out, **more):\n"
        "    (out / 'half').write_text('half')\n"
        f"    os.kill(os.getpid(), signal.{name})\n"
        "    time.sleep(60)\n"
        "room.write_suite = write\n"
        "sys.argv = ['tasm', 'suite', 'rule', '--out', 'rule']\n"
        "from tasm.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    said = "Interrupted.\n" if name == "SIGINT" else "Stopped.\n"
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_measures_removes_its_folder(tmp_path: Path) -> None:
    """`bench accuracy` ends its processes with SIGTERM; each draws suites into a folder."""
    program = (
        "import os, signal, sys, tempfile, threading, time\n"
        "from tasm.bench import workers\n"
        "def measure(backbone, unit):\n"
        "    with tempfile.TemporaryDirectory(dir=unit):\n"
        "        yield 'here'\n"
        "        time.sleep(60)\n"
        "class Unit:\n"
        "    model, dtype, device, vision_memory = 'random:qwen2_vl-0.15b', 'auto', 'auto', None\n"
        "import tasm.backbone.loading as loading\n"
        "loading.load_backbone = lambda *given, **more: None\n"
        "import queue\n"
        "waiting = queue.Queue()\n"
        "class Results:\n"
        "    def put(self, item):\n"
        "        print(item[0], len(os.listdir(sys.argv[1])))\n"
        "        stop = lambda: os.kill(os.getpid(), signal.SIGTERM)\n"
        "        threading.Timer(0.1, stop).start()\n"
        "    def cancel_join_thread(self): pass\n"
        "waiting.put(sys.argv[1]); waiting.put(None)\n"
        "workers._work(Unit, measure, waiting, Results())\n"
    )
    assert run_python(program, tmp_path, [str(tmp_path)]) == (0, "result 1\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="no such shell")
@pytest.mark.parametrize(
    ("line", "code", "out", "err"),
    [
        ("models >&-", 0, "", ""),
        ("show gone 2>&-", 2, "", ""),
        ("show gone 2>/dev/full", 2, "", ""),
        ("models | head -n 1", 0, "Models", ""),
        ("--help | head -n 1", 0, "Usage", ""),
    ],
)
def test_outputs_that_are_closed_full_or_left(line: str, code: int, out: str, err: str) -> None:
    if "/dev/full" in line and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    command = f"'{sys.executable}' -m tasm {line}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stdout.startswith(out)
    assert done.stderr == err


def test_an_output_that_knows_few_letters(run: Run, built: Path, tmp_path: Path) -> None:
    """JSON stays JSON, text stays readable."""
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    for more in ((), ("--json",)):
        done = subprocess.run([*TASM, "models", *more], capture_output=True, env=environment)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.isascii()
    assert json.loads(done.stdout)["bundled"][0]["name"] == "reference"
    name = os.fsdecode(b"caf\xe9")  # no UTF-8
    ran = subprocess.run(
        [*TASM, "suite", "rule", "--out", name, "--demonstrations", "1", "--queries", "1"],
        capture_output=True,
        cwd=tmp_path,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("tasm build --recipe tasm-retr", "tasm-retrieval-never"),
        ("tasm build --model ref", "reference"),
        ("tasm ask m --model Qwen/Qwen2-V", "Qwen/Qwen2-VL-2B-Instruct"),
        ("tasm suite nee", "needle"),
        ("tasm bench accuracy --suites bind,nee", "bind,needle"),
        ("tasm bench accuracy --recipes full,tasm-pa", "full,tasm-paper"),
        ("tasm bench speed --rows decode_g", "decode_growth"),
        ("tasm bench paper --benchmarks ok-vqa,v-", "ok-vqa,v-niah"),
        ("tasm build --mode str", "streaming"),
        ("tasm reb", "rebuild"),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_offered_names(
    shell: str, words: str, offered: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_TASM_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", words)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    assert offered in run().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_shown_its_script(shell: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    ran = run("--show-completion", shell)
    assert ran.code == 0, ran.err
    assert "_TASM_COMPLETE" in ran.out


@pytest.mark.parametrize(
    ("line", "without"),
    [
        ("['--help']", ("torch", "transformers", "numpy", "PIL", "rich", "sklearn", "matplotlib")),
        ("['build', '--help']", ("torch", "transformers", "numpy", "sklearn", "matplotlib")),
        ("['suite', '--help']", ("torch", "transformers", "numpy", "sklearn", "matplotlib")),
        ("['recipes']", ("torch", "transformers", "numpy", "sklearn", "matplotlib")),
        ("['models']", ("torch", "transformers", "sklearn", "matplotlib")),
        (
            "['suite', 'bind', '--out', 's', '--demonstrations', '1', '--queries', '1']",
            ("torch", "transformers", "sklearn", "matplotlib.pyplot", "matplotlib.font_manager"),
        ),
        ("COMPLETE", ("torch", "transformers", "sklearn", "matplotlib")),
    ],
)
def test_starting_imports_no_more_than_it_needs(
    line: str, without: tuple[str, ...], tmp_path: Path
) -> None:
    environment = dict(os.environ)
    words = line
    if line == "COMPLETE":
        words = "[]"
        environment |= {
            "_TASM_COMPLETE": "complete_bash",
            "COMP_WORDS": "tasm build --recipe t",
            "COMP_CWORD": "3",
        }
    program = (
        "import sys\n"
        f"sys.argv = ['tasm', *{words}]\n"
        "from tasm.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        f"    found = [name for name in {without!r} if name in sys.modules]\n"
        "    print(*found, sep='\\n', file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == ""


def test_a_process_that_never_ends_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_process, "LONGEST", 0.5)
    with pytest.raises(AssertionError, match="still running after"):
        run_python("import time; time.sleep(60)", tmp_path)
