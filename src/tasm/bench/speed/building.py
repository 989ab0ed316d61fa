"""Speed rows about building: its time and its peak memory beside a plain prefill's."""

import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tasm.bench.speed.bench import Bench, Scale
from tasm.bench.speed.clock import time_ratio, wait
from tasm.bench.speed.subjects import noise_demonstrations, stock_prefill
from tasm.compress.peak import PeakMemory
from tasm.errors import WorkError

RETURN_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""Makes glibc give back what is freed, so that a resident set is what the work holds."""

EMLOC_SHARE = 4
"""EMLoC's algorithm asks the demonstrations once for every layer and ratio: it gets a quarter."""

LEAST_ROUNDS = 5
"""Of the row that is nearest to its limit: a median of fewer is no median."""


def build_over_prefill(bench: Bench) -> float:
    """Return the time of a whole build of `tasm` over prefill's."""
    return _over_prefill(bench, "tasm", least=min(LEAST_ROUNDS, bench.scale.rounds))


def other_build_over_prefill(bench: Bench, recipe: str, share: int = 1) -> float:
    """Return the same for another recipe, on one `share`-th of the demonstrations."""
    return _over_prefill(bench, recipe, share)


def _over_prefill(bench: Bench, recipe: str, share: int = 1, least: int = 1) -> float:
    """A whole build's time over prefill's, pictures processed on both sides; both have done their
    work once on a single demonstration."""
    count = max(1, len(bench.demonstrations) // share)
    bench.build(recipe, 1)
    _prefill(bench, 1)
    return time_ratio(
        lambda: bench.build(recipe, count),
        lambda: _prefill(bench, count),
        device=bench.device,
        rounds=bench.scale.rounds,
        seconds=bench.scale.seconds,
        least=least,
        warm_up=0,
    )


def build_peak_over_prefill(bench: Bench) -> float:
    """Return the peak memory of a joint build over that of a stock prefill."""
    return _peak(bench, "build") / _peak(bench, "prefill")


def streaming_peak_growth(bench: Bench) -> float:
    """Return a streaming build's peak memory, ten times the demonstrations over one time's."""
    return _peak(bench, "grown") / _peak(bench, "small")


def core_bytes_over_full(bench: Bench) -> float:
    """Return the bytes that a core of 20 % holds over those of the full cache."""
    return bench.memory.core_bytes / bench.memory.full_bytes


def peak_of(name: str, bench: Bench, folder: Path) -> int:
    """Return the peak bytes of one piece of work above what is held before it.

    Leaves the memories "small" and "grown" in `folder`, for other rows.
    """
    if name == "prefill":
        _prefill(bench, 1)
        return peak_above(lambda: _prefill(bench), bench.device)
    bench.build_streaming(bench.demonstrations[:1])
    if name == "build":
        return peak_above(bench.build, bench.device)
    # The pictures are the user's, held before the build begins.
    demonstrations = noise_demonstrations(bench.count(name))
    built: list[Any] = []
    peak = peak_above(lambda: built.append(bench.build_streaming(demonstrations)), bench.device)
    built[0].save(folder / f"{name}.tasm")
    return peak


def peak_above(work: Callable[[], object], device: torch.device) -> int:
    """Run `work` and return the bytes its peak lay above what was held before.

    Where neither CUDA nor Linux says so, above the mark since the process began, which is why each
    piece of work has a process of its own.

    ```python
    >>> peak_above(lambda: torch.zeros(25_000_000), torch.device("cpu")) > 90_000_000
    True
    ```
    """
    gc.collect()
    wait(device)
    before, peak = _resident_peak(), PeakMemory(device)
    work()
    wait(device)
    found = peak.bytes_above_start()
    return _resident_peak() - before if found is None else found


def _resident_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _prefill(bench: Bench, demonstrations: int | None = None) -> object:
    rows = bench.demonstrations[:demonstrations]
    return stock_prefill(bench.stock, bench.backbone.transcript(rows))


def _peak(bench: Bench, name: str) -> int:
    """Measure in a process of its own: what one build leaves in an allocator hides the next."""
    settings = {
        "model": bench.model,
        "dtype": bench.dtype,
        "device": str(bench.device),
        "scale": asdict(bench.scale),
        "folder": str(bench.folder),
    }
    finished = subprocess.run(
        [sys.executable, "-m", __name__, name, json.dumps(settings)],
        capture_output=True,
        text=True,
        env={**os.environ, **RETURN_FREED_MEMORY},
    )
    if finished.returncode != 0:
        raise WorkError(f"Measuring the peak memory of {name} failed: {finished.stderr.strip()}")
    return int(finished.stdout.split()[-1])


def main() -> None:
    """Measure one peak; `python -m tasm.bench.speed.building NAME SETTINGS` prints its bytes."""
    name, settings = sys.argv[1], json.loads(sys.argv[2])
    bench = Bench(
        settings["model"],
        dtype=settings["dtype"],
        device=settings["device"],
        scale=Scale(**settings["scale"]),
    )
    with torch.inference_mode():
        print(peak_of(name, bench, Path(settings["folder"])))


if __name__ == "__main__":
    main()
