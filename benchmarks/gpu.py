"""What only a CUDA device can tell: exactness there, and figures at the size of Qwen2-VL-7B.

$ python benchmarks/gpu.py --out out/gpu

Runs `pytest -m cuda`, then makes a random model of that geometry on the device and measures
prefill, build, decode, a batch of eight, a gate over its bank, a captured step, shared attention,
retrieval and peak memory at growing lengths. What is launched is counted at the first length: the
operations that torch dispatches and, on CUDA, the kernels and copies that a profiler sees there and
the time that the device takes for them, beside the time on the clock. Prints Markdown tables and
writes figures.json; stops by itself within `--minutes`, and gives up on a single figure after
`--seconds`. Everything but the captured step also runs small on a CPU:

$ python benchmarks/gpu.py --device cpu --dtype float32 --model qwen2_vl-tiny --lengths 300 \
      --banks 1000 --no-matrix --no-graph
"""

import argparse
import json
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch.autograd import DeviceType
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile

from tasm.backbone.attention.kernels import partial_attention
from tasm.backbone.checkpoint.random_models import random_model
from tasm.backbone.loading import wrap_backbone
from tasm.bench.speed.counting import operations
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
TOKENS_EACH = 132  # of one demonstration of noise, roughly: 64 of its picture, a byte a token
RECIPES = ("compact", "tasm", "snapkv", "emloc")
CORE_SHARE = 0.2
WARM, STEPS, BATCH = 5, 15, 8
BANKS = (10_000, 100_000, 1_000_000)
_POOL = 8 << 30  # bytes
_LIVE = 64  # tokens of a live part of fixed size
ROWS, SHARED = 128, 4_096  # of a batch over one memory, and tokens of that memory


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
    parser.add_argument("--seconds", type=int, default=45)
    parser.add_argument("--no-matrix", action="store_true")
    parser.add_argument("--no-graph", action="store_true", help="leave out the captured step")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            "There is no CUDA device here. The CPU's figures come from `tasm bench speed`; "
            "`--device cpu` tries the script itself."
        )
    ends = time.perf_counter() + 60 * given.minutes
    given.out.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"machine": _machine(given.device), "matrix": None, "rows": []}
    if not given.no_matrix:
        document["matrix"] = _matrix()
    hf, processor = random_model(given.model, device=given.device, dtype=given.dtype)
    backbone = wrap_backbone(hf, processor)
    stock = stock_twin(backbone)
    if (
        given.device == "cuda"
    ):  # left to the allocator: a cache that grows then asks for nothing new
        torch.empty(_POOL, dtype=torch.uint8, device=given.device)

    def note(name: str, tokens: int, measure: Callable[[], dict[str, float]]) -> None:
        left = int(ends - time.perf_counter())
        if left > 0:
            _note(document, given.out, name, tokens, measure, min(left, given.seconds))

    lengths = [int(length) for length in given.lengths.split(",")]
    recipes = given.recipes.split(",")
    for recipe in recipes:  # the first build of a process loads what all others find
        note(f"first build, {recipe}", lengths[0], _building(backbone, lengths[0], recipe))
    for name, work in _works(backbone, stock, lengths[0], recipes):
        note(f"counted: {name}", lengths[0], lambda work=work: _counted(work, backbone.device))
    for length in lengths:
        for name, measure in _measures(backbone, stock, length, recipes):
            note(name, length, measure)
    for tokens in map(int, given.banks.split(",")):
        note("one retrieval, a layer", tokens, lambda n=tokens: _search(backbone, n))
    for name, measure in _shared_attention(backbone):
        note(name, SHARED, measure)
    if not given.no_graph:
        kept = int(CORE_SHARE * lengths[1])
        for name, make in _captured(backbone, lengths[1], kept):
            note(f"decode step captured as a CUDA graph, {name}", lengths[1], make)
    print(_table(document))


def _building(backbone: Any, length: int, recipe: str) -> Callable[[], dict[str, float]]:
    demonstrations = noise_demonstrations(max(2, length // TOKENS_EACH))
    return lambda: _timed(
        lambda: build(backbone, demonstrations, recipe=recipe, core="20%"), backbone.device
    )


def _works(
    backbone: Any, stock: Any, length: int, recipes: list[str]
) -> list[tuple[str, Callable[[], Any]]]:
    """What is counted: a prefill, a build by each recipe, and steps that follow one another."""
    demonstrations = noise_demonstrations(max(2, length // TOKENS_EACH))
    transcript = backbone.transcript(demonstrations)
    whole = len(transcript)
    full, kept = stock_cache(backbone, whole), memory_cache(backbone, int(CORE_SHARE * whole))
    works: list[tuple[str, Callable[[], Any]]] = [
        ("prefill, stock cache", lambda: stock_prefill(stock, transcript)),
        ("decode step, full", lambda: decode_steps(stock.hf, full, 1)),
        ("decode step, memory 20 %", lambda: decode_steps(backbone.hf, kept, 1)),
    ]
    for recipe in recipes:
        make = lambda recipe=recipe: build(  # noqa: E731
            backbone, demonstrations, recipe=recipe, core="20%", notice=None
        )
        works.append((f"build, {recipe}", make))
    return works


def _counted(work: Callable[[], Any], device: Any) -> dict[str, float]:
    """What one run of some work dispatches; on CUDA also what reaches the device, and the time
    that this takes there. What is made once was made by a run before."""
    work()
    found = {**_timed(work, device), "operations": operations(work)}
    if torch.device(device).type != "cuda":
        return found
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    return {**found, **_seen_on(DeviceType.CUDA, seen)}


def _seen_on(kind: DeviceType, seen: profile) -> dict[str, float]:
    """How many events a profiler saw on one kind of device, and how long they took there; what a
    user marks there spans events, and is none."""
    there = [
        one for one in seen.events() or () if one.device_type == kind and not one.is_user_annotation
    ]
    busy = sum(one.time_range.elapsed_us() for one in there) / 1000
    return {"launches": len(there), "device_milliseconds": busy}


def _measures(
    backbone: Any, stock: Any, length: int, recipes: list[str]
) -> list[tuple[str, Callable[[], dict[str, float]]]]:
    demonstrations = noise_demonstrations(max(2, length // TOKENS_EACH))
    transcript = backbone.transcript(demonstrations)
    whole, device, dtype = len(transcript), backbone.device, backbone.dtype
    kept = int(CORE_SHARE * whole)
    built: dict[str, Any] = {}

    def prefill() -> dict[str, float]:
        stock_prefill(stock, transcript)
        return _timed(lambda: stock_prefill(stock, transcript), device)

    def building(recipe: str) -> dict[str, float]:
        def run() -> None:
            built[recipe] = build(backbone, demonstrations, recipe=recipe, core="20%")

        return _timed(run, device)

    def beside(recipe: str, **given: Any) -> dict[str, float]:
        cache = built[recipe].cache(device=device, dtype=dtype, **given)
        return _decode(backbone.hf, cache, 1, device)

    measures = [("prefill, stock cache", prefill)]
    measures += [(f"build, {name}", lambda name=name: building(name)) for name in recipes]
    for batch in (1, BATCH):
        full = lambda batch=batch: stock_cache(backbone, whole, batch)  # noqa: E731
        plain = lambda: memory_cache(backbone, kept)  # noqa: E731
        for name, hf, make in (("full", stock.hf, full), ("memory 20 %", backbone.hf, plain)):
            measures.append(
                (
                    f"decode step, batch {batch}, {name}",
                    lambda hf=hf, make=make, batch=batch: _decode(hf, make(), batch, device),
                )
            )
    if "compact" in recipes:
        measures.append(("decode step, compact (biases)", lambda: beside("compact")))
    if "tasm" in recipes:
        for place in ("device", "host"):
            name = f"decode step, tasm, gate asked, bank on the {place}"
            measures.append((name, lambda place=place: beside("tasm", gate="js", bank_on=place)))
    return measures


def _decode(hf: Any, cache: Any, batch: int, device: Any) -> dict[str, float]:
    """The median of steps that are waited for one by one."""
    decode_steps(hf, cache, WARM, batch)
    steps = [_timed(lambda: decode_steps(hf, cache, 1, batch), device) for _ in range(STEPS)]
    return {
        "milliseconds": statistics.median(one["milliseconds"] for one in steps),
        "peak_megabytes": max(one["peak_megabytes"] for one in steps),
    }


def _captured(
    backbone: Any, length: int, kept: int
) -> list[tuple[str, Callable[[], dict[str, float]]]]:
    """A step over a live part of fixed size, its graph captured by torch.compile: beside a core,
    and with a gate that is asked and a bank on the device."""
    demonstrations = noise_demonstrations(max(2, length // TOKENS_EACH))

    def gated() -> dict[str, float]:
        memory = build(backbone, demonstrations, recipe="tasm", core="20%")
        given = {"device": backbone.device, "dtype": backbone.dtype, "bank_on": "device"}
        return _graph(backbone, memory.cache(gate="js", live_tokens=_LIVE, **given))

    plain = lambda: _graph(backbone, memory_cache(backbone, kept, live_tokens=_LIVE))  # noqa: E731
    return [("memory 20 %", plain), ("tasm, gate asked", gated)]


def _graph(backbone: Any, cache: Any) -> dict[str, float]:
    torch.compiler.reset()
    counters.clear()
    forward = torch.compile(backbone.hf.forward, backend="cudagraphs", dynamic=False)
    token = torch.ones(1, 1, dtype=torch.long, device=backbone.device)

    def step() -> None:
        forward(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)

    with torch.inference_mode():
        for _ in range(WARM):
            step()
        if skips := counters["inductor"]["cudagraph_skips"]:
            raise RuntimeError(f"not captured: {skips} graphs were skipped")
        steps = [_timed(step, backbone.device) for _ in range(STEPS)]
    return {
        "milliseconds": statistics.median(one["milliseconds"] for one in steps),
        "peak_megabytes": max(one["peak_megabytes"] for one in steps),
    }


def _shared_attention(backbone: Any) -> list[tuple[str, Callable[[], dict[str, float]]]]:
    """One layer's attention of many rows to one memory, read once, and to a copy for each row."""
    geometry, device, dtype = backbone.geometry, backbone.device, backbone.dtype
    heads, kv_heads, size = geometry.query_heads, geometry.kv_heads, geometry.head_dim

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, dtype=dtype)

    def measured(run: Callable[[torch.Tensor], Any]) -> dict[str, float]:
        query = made(ROWS, heads, 1, size)
        run(query)
        return _timed(lambda: run(query), device, 50)

    def once() -> dict[str, float]:
        key, value = made(1, kv_heads, SHARED, size), made(1, kv_heads, SHARED, size)
        return measured(lambda query: partial_attention(query, key, value, None, size**-0.5))

    def copies() -> dict[str, float]:
        key, value = made(ROWS, kv_heads, SHARED, size), made(ROWS, kv_heads, SHARED, size)
        return measured(
            lambda query: scaled_dot_product_attention(query, key, value, enable_gqa=True)
        )

    return [
        (f"attention of {ROWS} rows, one memory", once),
        (f"attention of {ROWS} rows, a copy each", copies),
    ]


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


def _timed(run: Callable[[], Any], device: Any, repeats: int = 1) -> dict[str, float]:
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    if on_cuda:
        torch.cuda.synchronize()
    milliseconds = 1000 * (time.perf_counter() - started) / repeats
    peak = torch.cuda.max_memory_allocated() - before if on_cuda else 0
    return {"milliseconds": milliseconds, "peak_megabytes": peak / 1e6}


def _note(
    document: dict[str, Any], out: Path, name: str, length: int, measure: Any, seconds: int
) -> None:
    """Add a row, saved at once; a measurement that fails or lasts is a row that says so."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(seconds)
    try:
        row = {"name": name, "tokens": length, **measure()}
    except Exception as error:  # whatever a device or its compiler says: the other rows go on
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        row = {"name": name, "tokens": length, "failed": told[:200]}
    finally:
        signal.alarm(0)
    document["rows"].append(row)
    print(json.dumps(row), file=sys.stderr, flush=True)
    (out / "figures.json").write_text(json.dumps(document, indent=1) + "\n")


def _too_long(*_: object) -> None:
    raise TimeoutError("not measured: it takes too long here")


def _matrix() -> str:
    """The last line of `pytest -m cuda`."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "-n", "6", "tests/cuda"],
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
    timed = [row for row in document["rows"] if not row["name"].startswith("counted: ")]
    for row in timed:
        told = f"{row['failed']} | –" if "failed" in row else _figures(row)
        lines.append(f"| {row['name']} | {row['tokens']:,} | {told} |")
    lines += ["", "| | tokens | ms | operations | launches | ms on the device |"]
    lines.append("|---|---|---|---|---|---|")
    for row in [row for row in document["rows"] if row not in timed]:
        told = f"{row['failed']} | – | – | –" if "failed" in row else _counts(row)
        name = row["name"].removeprefix("counted: ")
        lines.append(f"| {name} | {row['tokens']:,} | {told} |")
    return "\n".join(lines)


def _counts(row: dict[str, Any]) -> str:
    there = "– | –"
    if "launches" in row:
        there = f"{row['launches']:,} | {row['device_milliseconds']:.1f}"
    return f"{row['milliseconds']:.1f} | {row['operations']:,} | {there}"


def _figures(row: dict[str, Any]) -> str:
    digits = 3 if row["milliseconds"] < 2 else 1
    return f"{row['milliseconds']:.{digits}f} | {row['peak_megabytes']:.0f}"


if __name__ == "__main__":
    main()
