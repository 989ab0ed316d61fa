"""The speed table: each row measured in its turn, with the machine it was measured on."""

import gc
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

import tasm
from tasm.bench.speed import building, counting, decoding, loading
from tasm.bench.speed.bench import FULL, Bench, Scale
from tasm.bench.speed.figures import (
    COLUMNS,
    COUNTED_RECIPES,
    PEAK_LENGTHS,
    SPEED_ROWS,
    Measured,
)
from tasm.errors import InputError, did_you_mean
from tasm.files import write_text

MEASURES: dict[str, Callable[[Bench], float]] = {
    "build_over_prefill": building.build_over_prefill,
    "compact_build_over_prefill": partial(building.other_build_over_prefill, recipe="compact"),
    "emloc_build_over_prefill": partial(
        building.other_build_over_prefill, recipe="emloc-paper", share=building.EMLOC_SHARE
    ),
    "build_peak_over_prefill": building.build_peak_over_prefill,
    "streaming_peak_growth": building.streaming_peak_growth,
    "decode_over_stock": decoding.decode_over_stock,
    "decode_growth": decoding.decode_growth,
    "decode_full_over_memory@1k": partial(decoding.decode_full_over_memory, tokens=1024),
    "decode_full_over_memory@4k": partial(decoding.decode_full_over_memory, tokens=4096),
    "decode_full_over_memory@16k": partial(decoding.decode_full_over_memory, tokens=16384),
    "batch8_expanded_over_shared": decoding.batch8_expanded_over_shared,
    "gate_over_decode": decoding.gate_over_decode,
    "decode_ops_over_stock@never": partial(counting.decode_ops_over_stock, gate="never"),
    "decode_ops_over_stock@js": partial(counting.decode_ops_over_stock, gate="js"),
    **{
        f"peak_bytes_per_token@{recipe}:{count}": partial(
            counting.peak_bytes_per_token, recipe=recipe, demonstrations=count
        )
        for recipe in COUNTED_RECIPES
        for count in PEAK_LENGTHS
    },
    "peak_growth_over_full": partial(counting.peak_growth_over_full, recipes=COUNTED_RECIPES),
    **{
        f"build_ops_over_prefill@{recipe}": partial(counting.build_ops_over_prefill, recipe=recipe)
        for recipe in COUNTED_RECIPES
        if recipe != "full"
    },
    "core_bytes_over_full": building.core_bytes_over_full,
    "open_seconds_per_100mb": loading.open_seconds_per_100mb,
    "checked_load_seconds_per_100mb": loading.checked_load_seconds_per_100mb,
    "ask_start_over_import": loading.ask_start_over_import,
}
"""How each row is measured, by name."""


@dataclass(frozen=True)
class SpeedReport:
    """The measured rows and the machine."""

    model: str
    machine: dict[str, Any]
    rows: list[Measured]

    @property
    def title(self) -> str:
        """One line about what was measured where."""
        machine = self.machine
        return (
            f"{self.model}, {machine['dtype']} on {machine['device']} "
            f"({machine['threads']} threads), torch {machine['torch']}, "
            f"transformers {machine['transformers']}; {machine['seconds']:.0f} seconds"
        )

    @property
    def complaint(self) -> str | None:
        """What to say where limits are missed, or None."""
        missed = [
            f"{row.name} {row.value:.3f} ({row.row.limit})" for row in self.rows if row.is_missed
        ]
        if not missed:
            return None
        limits = "1 limit is" if len(missed) == 1 else f"{len(missed)} limits are"
        return f"{limits} missed on this machine: {', '.join(missed)}."

    def to_json(self) -> dict[str, Any]:
        """Return the document of `tasm bench speed --json`."""
        return {"machine": self.machine, "rows": [row.to_json() for row in self.rows]}

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [self.title, "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        lines += [f"| {' | '.join(row.cells)} |" for row in self.rows]
        return "\n".join(lines) + "\n"


def measure_speed(
    model: str,
    *,
    rows: Sequence[str] | None = None,
    dtype: str = "auto",
    device: str = "auto",
    scale: Scale = FULL,
    progress: Callable[[str, int, int], None] | None = None,
) -> SpeedReport:
    """Measure rows of the speed table, all of them by default.

    At any other `scale` than `FULL` no value is held against its limit.

    ```python
    measure_speed("random:qwen2_vl-0.15b", rows=["decode_over_stock"]).rows[0].value
    ```

    Raises:
        InputError: if a row is not known.
        ModelError: if the model cannot be loaded.
    """
    names = [row.name for row in SPEED_ROWS]
    for name in rows or ():
        if name not in names:
            raise InputError(
                f"There is no speed row {name!r}; there are {', '.join(names)}."
                + did_you_mean(name, names)
            )
    wanted = [row for row in SPEED_ROWS if rows is None or row.name in rows]
    began = time.perf_counter()
    bench = Bench(model, dtype=dtype, device=device, scale=scale)
    measured = []
    try:
        for row in wanted:
            if progress is not None:
                progress(row.name, 0, 1)
            started = time.perf_counter()
            value = MEASURES[row.name](bench)
            seconds = time.perf_counter() - started
            held = row if scale == FULL else row.without_limits()
            measured.append(Measured(held, value, seconds))
            if progress is not None:
                progress(row.name, 1, 1)
    finally:
        gc.unfreeze()  # what counting builds set aside, to be looked through again
    return SpeedReport(model, _machine(bench, time.perf_counter() - began), measured)


def write_speed(report: SpeedReport, out: Path) -> list[Path]:
    """Write `speed.json` and `speed.md` into a folder and return their paths."""
    document = {"model": report.model, **report.to_json()}
    write_text(out / "speed.json", json.dumps(document, indent=2) + "\n")
    write_text(out / "speed.md", report.to_markdown())
    return [out / "speed.json", out / "speed.md"]


def _machine(bench: Bench, seconds: float) -> dict[str, Any]:
    cuda = bench.device.type == "cuda"
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(bench.device) if cuda else str(bench.device),
        "dtype": str(bench.backbone.dtype).removeprefix("torch."),
        "model": bench.model,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tasm": tasm.__version__,
        "scale": asdict(bench.scale),
        "seconds": round(seconds, 1),
    }


def _processor() -> str:
    """The processor's name where Linux tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
