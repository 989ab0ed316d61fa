"""What only a CUDA device can tell: exactness there, and figures at the size of Qwen2-VL-7B.

$ python benchmarks/gpu.py --out out/gpu

Runs `pytest -m cuda`, then makes a random model of that geometry on the device and measures
prefill, build, decode, a batch of eight, retrieval and peak memory at growing lengths. Prints a
Markdown table and writes figures.json; stops by itself within `--minutes`.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tasm.backbone.checkpoint.random_models import random_model
from tasm.backbone.loading import wrap_backbone
from tasm.bench.speed.subjects import (
    decode_steps,
    memory_cache,
    noise_demonstrations,
    stock_cache,
    stock_prefill,
    stock_twin,
)
from tasm.compress.api import build
from tasm.memory import Bank, LayerTokens

LENGTHS = (2_000, 8_000, 16_000, 32_000)
TOKENS_EACH = 130  # of one demonstration of noise, roughly: 64 of its picture, a byte a token
RECIPES = ("tasm", "snapkv", "emloc")
CORE_SHARE = 0.2
STEPS, BATCH = 20, 8
BANKS = (10_000, 100_000, 1_000_000)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="qwen2_vl-7b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)))
    parser.add_argument("--banks", default=",".join(map(str, BANKS)))
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--no-matrix", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no CUDA device here. The CPU's figures come from `tasm bench speed`.")
    ends = time.perf_counter() + 60 * given.minutes
    given.out.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"machine": _machine(given.device), "matrix": None, "rows": []}
    if not given.no_matrix:
        document["matrix"] = _matrix()
    hf, processor = random_model(given.model, device=given.device, dtype=given.dtype)
    backbone = wrap_backbone(hf, processor)
    stock = stock_twin(backbone)
    for length in map(int, given.lengths.split(",")):
        for name, measure in _measures(backbone, stock, length, given.recipes.split(",")):
            if time.perf_counter() < ends:
                _note(document, given.out, name, length, measure)
    for tokens in map(int, given.banks.split(",")):
        if time.perf_counter() < ends:
            _note(
                document, given.out, "retrieval ms", tokens, lambda n=tokens: _search(backbone, n)
            )
    print(_table(document))


def _measures(
    backbone: Any, stock: Any, length: int, recipes: list[str]
) -> list[tuple[str, Callable[[], dict[str, float]]]]:
    demonstrations = noise_demonstrations(max(2, length // TOKENS_EACH))
    transcript = backbone.transcript(demonstrations)
    whole = len(transcript)
    kept = int(CORE_SHARE * whole)
    device = backbone.device

    def timed(run: Callable[[], Any], repeats: int = 1) -> dict[str, float]:
        run()
        return _timed(run, device, repeats)

    measures = [("prefill, stock cache", lambda: timed(lambda: stock_prefill(stock, transcript)))]
    for recipe in recipes:
        run = lambda recipe=recipe: build(backbone, demonstrations, recipe=recipe, core="20%")  # noqa: E731
        measures.append((f"build, {recipe}", lambda run=run: timed(run)))
    for batch in (1, BATCH):
        full = lambda batch=batch: stock_cache(backbone, whole, batch)  # noqa: E731
        beside = lambda: memory_cache(backbone, kept)  # noqa: E731
        for name, hf, make in (("full", stock.hf, full), ("memory 20 %", backbone.hf, beside)):
            measures.append(
                (
                    f"decode step, batch {batch}, {name}",
                    lambda hf=hf, make=make, batch=batch: _decode(hf, make(), batch, device),
                )
            )
    return measures


def _decode(hf: Any, cache: Any, batch: int, device: Any) -> dict[str, float]:
    decode_steps(hf, cache, 3, batch)
    return _timed(lambda: decode_steps(hf, cache, STEPS, batch), device, 1, per=STEPS)


def _search(backbone: Any, tokens: int) -> dict[str, float]:
    """One top-96 search of one layer, bank on the device."""
    geometry, device = backbone.geometry, backbone.device
    shape = (geometry.kv_heads, tokens, geometry.head_dim)
    keys, values = (torch.randn(shape, device=device, dtype=backbone.dtype) for _ in range(2))
    index = torch.arange(tokens, device=device, dtype=torch.int32).expand(geometry.kv_heads, -1)
    bank = Bank([LayerTokens(keys, values, index)])
    query = torch.randn(1, geometry.kv_heads, geometry.head_dim, device=device)
    bank.search(0, query, 96)
    return _timed(lambda: bank.search(0, query, 96), device, 10)


def _timed(run: Callable[[], Any], device: Any, repeats: int, per: int = 1) -> dict[str, float]:
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    if on_cuda:
        torch.cuda.synchronize()
    milliseconds = 1000 * (time.perf_counter() - started) / repeats / per
    peak = torch.cuda.max_memory_allocated() - before if on_cuda else 0
    return {"milliseconds": milliseconds, "peak_megabytes": peak / 1e6}


def _note(document: dict[str, Any], out: Path, name: str, length: int, measure: Any) -> None:
    """Add a row, saved at once; a measurement that fails is a row that says so."""
    try:
        row = {"name": name, "tokens": length, **measure()}
    except (RuntimeError, torch.OutOfMemoryError) as error:
        row = {"name": name, "tokens": length, "failed": str(error).splitlines()[0]}
    document["rows"].append(row)
    print(json.dumps(row), file=sys.stderr, flush=True)
    (out / "figures.json").write_text(json.dumps(document, indent=1) + "\n")


def _matrix() -> str:
    """The last line of `pytest -m cuda`."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "tests/cuda"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    print(*lines[-25:], sep="\n", file=sys.stderr)
    return lines[-1] if lines else f"pytest failed: {done.stderr[-300:]}"


def _machine(device: str) -> str:
    import transformers

    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU"
    return f"{name}, torch {torch.__version__}, transformers {transformers.__version__}"


def _table(document: dict[str, Any]) -> str:
    lines = [f"{document['machine']}; matrix: {document['matrix'] or 'not run'}", ""]
    lines += ["| | tokens | ms | peak MB above the weights |", "|---|---|---|---|"]
    for row in document["rows"]:
        told = row.get("failed") or f"{row['milliseconds']:.1f} | {row['peak_megabytes']:.0f}"
        lines.append(f"| {row['name']} | {row['tokens']:,} | {told} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
