"""Speed rows about opening a memory and starting the command line."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from tasm.bench.speed.bench import Bench
from tasm.bench.speed.clock import seconds_of
from tasm.bench.speed.subjects import noise_image
from tasm.errors import WorkError
from tasm.memory import TaskMemory
from tasm.suites.suites import write_suite

BYTES = 100_000_000

_IMPORTS = (
    "import torch, transformers; "
    "from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration"
)


def open_seconds_per_100mb(bench: Bench) -> float:
    """Return the time of `TaskMemory.load` alone for 100 MB, in seconds."""
    return _load_seconds(bench, TaskMemory.load)


def checked_load_seconds_per_100mb(bench: Bench) -> float:
    """Return the time of a load with every block checked for 100 MB, in seconds."""

    def load(folder: Path) -> None:
        TaskMemory.load(folder).check_all()

    return _load_seconds(bench, load)


def _load_seconds(bench: Bench, load: Callable[[Path], object]) -> float:
    folder, cpu = bench.saved, torch.device("cpu")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    load(folder)
    times: list[float] = []
    while len(times) < bench.scale.rounds and (not times or sum(times) < bench.scale.seconds):
        times.append(seconds_of(lambda: load(folder), cpu))
    return median(times) * BYTES / size


def ask_start_over_import(bench: Bench) -> float:
    """Return the time of `tasm ask` with the reference model over that of importing what it needs.

    Both are whole processes, taken in turn. The model is the bundled one, whatever the bench's.
    """
    with tempfile.TemporaryDirectory(prefix="tasm-start-") as parent:
        suite, memory, image = (Path(parent) / name for name in ("suite", "m.tasm", "q.png"))
        write_suite("bind", suite, seed=0)
        noise_image(0).save(image)
        demonstrations = suite / "demonstrations.jsonl"
        _run("-m", "tasm", "build", demonstrations, "--model", "reference", "--out", memory)
        ask = ("-m", "tasm", "ask", memory, "--image", image, "--question", "What is it?")
        asked, imported = [], []
        for _ in range(bench.scale.starts):
            asked.append(_run(*ask, "--max-new-tokens", "1", "--json"))
            imported.append(_run("-c", _IMPORTS))
        return median(asked) / median(imported)


def _run(*arguments: str | Path) -> float:
    """Run Python with the arguments and return the seconds it took."""
    started = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    if finished.returncode != 0:
        raise WorkError(f"python {' '.join(map(str, arguments))} failed: {finished.stderr.strip()}")
    return seconds
