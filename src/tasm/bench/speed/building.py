"""Speed rows about building: its time and its peak memory beside a plain prefill's."""

import json
import os
import subprocess
import sys

import torch

from tasm.bench.speed.bench import FEW, GROWTH, Bench
from tasm.bench.speed.clock import alternate
from tasm.bench.speed.peak import peak_above
from tasm.bench.speed.subjects import noise_demonstrations, stock_prefill
from tasm.compress.api import build
from tasm.errors import WorkError

ROUNDS = 5

RETURN_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""Makes glibc give back what is freed, so that a resident set is what the work holds."""


def build_over_prefill(bench: Bench) -> float:
    """Return the time of a whole build over prefill's, pictures processed on both sides."""
    return alternate(bench.build, lambda: _prefill(bench), device=bench.device, rounds=ROUNDS).ratio


def emloc_build_over_prefill(bench: Bench) -> float:
    """Return the time of a build by EMLoC over prefill's; one round each, it takes long."""

    def emloc() -> None:
        build(bench.backbone, bench.demonstrations, recipe="emloc")

    timing = alternate(emloc, lambda: _prefill(bench), device=bench.device, rounds=1, warm_up=0)
    return timing.ratio


def build_peak_over_prefill(bench: Bench) -> float:
    """Return the peak memory of a joint build over that of a stock prefill."""
    return _peak(bench, "build") / _peak(bench, "prefill")


def streaming_peak_growth(bench: Bench) -> float:
    """Return a streaming build's peak memory, ten times the demonstrations over one time's."""
    return _peak(bench, "grown") / _peak(bench, "small")


def core_bytes_over_full(bench: Bench) -> float:
    """Return the bytes that a core of 20 % holds over those of the full cache."""
    return bench.memory.core_bytes / bench.memory.full_bytes


def peak_of(name: str, bench: Bench) -> int:
    """Return the peak bytes of one piece of work above what is held before it."""
    if name == "prefill":
        transcript = bench.backbone.transcript(bench.demonstrations)
        stock_prefill(bench.stock, transcript.chunk(0, 1))
        del transcript
        return peak_above(lambda: _prefill(bench), bench.device)
    bench.build_streaming(bench.demonstrations[:1])
    if name == "build":
        return peak_above(bench.build, bench.device)
    # The pictures are the user's, held before the build begins.
    count = {"small": FEW, "grown": GROWTH * FEW}[name]
    demonstrations = noise_demonstrations(count)
    return peak_above(lambda: bench.build_streaming(demonstrations), bench.device)


def _prefill(bench: Bench) -> object:
    return stock_prefill(bench.stock, bench.backbone.transcript(bench.demonstrations))


def _peak(bench: Bench, name: str) -> int:
    """Measure in a process of its own: what one build leaves in an allocator hides the next."""
    settings = {"model": bench.model, "dtype": bench.dtype, "device": str(bench.device)}
    finished = subprocess.run(
        [sys.executable, "-m", "tasm.bench.speed.building", name, json.dumps(settings)],
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
    bench = Bench(settings["model"], dtype=settings["dtype"], device=settings["device"])
    with torch.inference_mode():
        print(peak_of(name, bench))


if __name__ == "__main__":
    main()
