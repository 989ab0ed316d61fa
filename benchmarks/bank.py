"""A bank of a million tokens: what its index finds, what it reads, how long, in how much memory.

    python benchmarks/bank.py --out DIR                       # tens of minutes: a million keys
    python benchmarks/bank.py --out DIR --tokens 100000 --layers 3

Keys, values and queries are the model's own: it reads task after task of the suites, each at its
own positions, and what one layer has of all of them is one bank, a memory on disk. Queries are the
suites' questions (their last tokens), none of which is in the bank, nor had a part in its making.

Recall: of the attention that a query head gives the exact best k, how much the ones found have.
Error: of the head's output, found or exact k against all keys, by the length of the latter; with a
tail, the lists that were not read are added, each as its mean key and value and number of tokens.
"""

import argparse
import json
import mmap
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import tasm
from tasm.answer.generation import generate
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.given import as_backbone
from tasm.bench.sources import parse_suites
from tasm.memory import Bank, GateSettings, LayerTokens, TaskMemory, TokenTable
from tasm.memory.disk.layers import MappedLayer
from tasm.memory.retrieval.bank import best_rows
from tasm.memory.retrieval.index.head import HeadIndex

SUITES = (
    "bind@120,needle@150,late@72,rule@108,locate@48,digits@100,mixed@120,read@48,count@48,pair@96"
)
SPREAD = ("count", "late", "rule")
"""Suites whose answers need many demonstrations together; the others look one thing up."""


# ---------------------------------------------------------------------- making it


class Heard:
    """Hears the rotated queries of a call, brings nothing; see `Extra`."""

    chunkable = False

    def __init__(self) -> None:
        self.queries: dict[int, Tensor] = {}
        self.scaling = 1.0

    def __call__(self, layer: int, query: Tensor, scaling: float, weight: Any = None) -> None:
        self.queries.setdefault(layer, query.float().clone())
        self.scaling = scaling

    def reorder(self, index: Tensor) -> None: ...

    def repeat(self, times: int) -> None: ...

    def select(self, index: Tensor) -> None: ...

    def reset(self) -> None: ...

    def fork(self) -> "Heard":
        return self


@torch.no_grad()
def read_tasks(given: argparse.Namespace, place: Path) -> None:
    """Read tasks until there are tokens enough; write keys, values and queries as plain numbers."""
    backbone = as_backbone(tasm.load_model(given.model))
    layers = [int(layer) for layer in given.layers.split(",")]
    place.mkdir(parents=True)
    tasks: list[dict[str, Any]] = []
    done, seed = 0, given.first_seed
    while done < given.tokens:
        for source in parse_suites(given.suites, queries=8, split=given.split):
            if done >= given.tokens:
                break
            with source.open(seed) as episode:
                memory = tasm.build(backbone, list(episode.demonstrations), recipe="full")
                heard = Heard()
                cache = MemoryCache.from_segments(
                    memory.geometry,
                    [None if layer is None else [layer.segment()] for layer in memory.core],
                    next_position=memory.next_position,
                    logical_length=memory.logical_length,
                    extra=heard,
                )
                inputs = backbone.query_inputs(episode.queries, layout=memory.layout)
                generate(backbone, inputs, cache, max_new_tokens=1)
            for layer in layers:
                kept = memory.core[layer]
                assert kept is not None
                _append(place / f"keys.{layer}", kept.keys.transpose(0, 1).half())
                _append(place / f"values.{layer}", kept.values.transpose(0, 1).half())
                _append(place / f"test.{layer}", heard.queries[layer])
            start, done = done, done + memory.logical_length
            asked = len(episode.queries)
            tasks.append({"suite": source.name, "start": start, "stop": done, "test": [asked]})
        seed += 1
        print(f"{done} tokens", flush=True)
    text = json.dumps({"tasks": tasks, "scaling": heard.scaling, "tokens": done})
    (place / "tasks.json").write_text(text)


def _append(path: Path, numbers: Tensor) -> None:
    with open(path, "ab") as file:
        file.write(np.ascontiguousarray(numbers.numpy()).tobytes())


@dataclass(frozen=True, eq=False)
class Asked:
    """What was read of one layer, and the queries (rows, kv_heads, group, head_dim)."""

    keys: Tensor
    values: Tensor
    queries: Tensor
    suites: list[str]
    scaling: float


def load(place: Path, layer: int, tokens: int, queries: int) -> Asked:
    """Read the first `tokens` tokens of a layer, and some of their tasks' queries."""
    about = json.loads((place / "tasks.json").read_text())
    geometry = as_backbone(tasm.load_model("reference")).geometry
    heads, size = geometry.kv_heads, geometry.head_dim

    def numbers(name: str) -> Tensor:
        held = np.memmap(place / f"{name}.{layer}", np.float16, "r").reshape(-1, heads, size)
        return torch.from_numpy(np.ascontiguousarray(held[:tokens].transpose(1, 0, 2)))

    group = geometry.query_heads // heads
    asked = torch.from_numpy(np.fromfile(place / f"test.{layer}", np.float32))
    suites = [task["suite"] for task in about["tasks"] for _ in range(sum(task["test"]))]
    there = sum(sum(task["test"]) for task in about["tasks"] if task["stop"] <= tokens)
    chosen = torch.randperm(there, generator=torch.Generator().manual_seed(0))[:queries]
    return Asked(
        numbers("keys"),
        numbers("values"),
        asked.view(-1, heads, group, size)[chosen],
        [suites[row].partition("@")[0] for row in chosen.tolist()],
        about["scaling"],
    )


def without_bank(asked: Asked) -> Asked:
    """Only its queries: what is measured must find the keys on disk."""
    return replace(asked, keys=asked.keys[:, :0].clone(), values=asked.values[:, :0].clone())


def save(asked: Asked, place: Path) -> float:
    """Save the bank as a memory; returns the seconds that took."""
    backbone = as_backbone(tasm.load_model("reference"))
    tokens = asked.keys.shape[1]
    index = torch.arange(tokens, dtype=torch.int32).expand(asked.keys.shape[0], -1)
    few = LayerTokens(asked.keys[:, :8], asked.values[:, :8], index[:, :8])
    table = TokenTable.make(
        positions=torch.arange(tokens).expand(backbone.geometry.position_rows, -1),
        roles=torch.full((tokens,), 2),
        demonstration=torch.full((tokens,), -1),
        place=torch.full((tokens, 4), -1),
    )
    layers = backbone.geometry.layers
    memory = TaskMemory(
        core=[few] * layers,
        tokens=table,
        next_position=tokens,
        logical_length=tokens,
        full_bytes=4 * asked.keys.nbytes,
        geometry=backbone.geometry,
        identity=backbone.identity,
        layout=tasm.build(backbone, _one_demonstration(), recipe="full").layout,
        recipe={"name": "full", "settings": {}},
        bank=Bank([LayerTokens(asked.keys, asked.values, index), *[None] * (layers - 1)]),
        gate=GateSettings(kind="always"),
    )
    started = time.perf_counter()
    memory.save(place, overwrite=True)
    return time.perf_counter() - started


def _one_demonstration() -> list[dict[str, str]]:
    return [{"question": "a", "answer": "b"}, {"question": "c", "answer": "d"}]


# ---------------------------------------------------------------------- measuring it


def anonymous_bytes() -> int:
    """Memory of this process that no file stands behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


class Counted:
    """Counts the keys that searches read, and holds on to the largest anonymous memory."""

    def __init__(self) -> None:
        self.rows, self.peak = 0, 0
        self._read, self._block = MappedLayer.keys_at, MappedLayer.block

    def __enter__(self) -> "Counted":
        def keys_at(layer: MappedLayer, head: int, rows: Tensor) -> Tensor:
            self.rows += len(rows)
            found = self._read(layer, head, rows)
            self.peak = max(self.peak, anonymous_bytes())
            return found

        def block(layer: MappedLayer, start: int, stop: int) -> Tensor:
            found = self._block(layer, start, stop)
            self.peak = max(self.peak, anonymous_bytes())
            return found

        MappedLayer.keys_at, MappedLayer.block = keys_at, block  # type: ignore[method-assign]
        return self

    def __exit__(self, *what: object) -> None:
        MappedLayer.keys_at = self._read  # type: ignore[method-assign]
        MappedLayer.block = self._block  # type: ignore[method-assign]


def measure(memory: TaskMemory, asked: Asked, k: int) -> dict[str, Any]:
    """Search for every query by index and by scan, and compare."""
    assert memory.bank is not None
    bank, layer = memory.bank, memory.bank.layers[0]
    assert layer is not None
    tokens = layer.counts[0]
    queries = [query[None] for query in asked.queries]
    before = anonymous_bytes()
    started = time.perf_counter()
    bank.search(0, queries[0], k)
    first_ms = 1000 * (time.perf_counter() - started)
    with Counted() as counted:
        found = [bank.search(0, query, k) for query in queries]
    by_index, read = counted.peak - before, counted.rows
    index_ms = _milliseconds(lambda query: bank.search(0, query, k), queries)
    with Counted() as counted:
        best_rows(layer, queries[0], k)
    by_scan = counted.peak - before
    scan_ms = _milliseconds(lambda query: best_rows(layer, query, k), queries[:12])
    cold = [_cold(memory, lambda query=query: bank.search(0, query, k)) for query in queries[:12]]
    rows, heads = _against_all(bank, asked, found, k), asked.queries.shape[1]
    recall = torch.cat([row["recall"] for row in rows])
    result = {
        "tokens": tokens,
        "recall": float(recall.mean()),
        "recall_p5": float(recall.quantile(0.05)),
        "exact_share": float(torch.cat([row["share"] for row in rows]).mean()),
        "keys_read": read / len(queries) / heads / tokens,
        "index_ms": index_ms,
        "scan_ms": scan_ms,
        "first_ms": first_ms,
        "cold_ms": float(np.median([milliseconds for milliseconds, _ in cold])),
        "cold_mb": float(np.median([read for _, read in cold])) / 1e6,
        "bank_mb": layer.nbytes / 1e6,
        "anonymous_index_mb": by_index / 1e6,
        "anonymous_scan_mb": by_scan / 1e6,
    }
    for name, suites in (("lookup", None), ("spread", SPREAD)):
        for form in ("found", "exact", "tail"):
            errors = [
                row[form]
                for row, suite in zip(rows, asked.suites, strict=True)
                if form in row and (suite in SPREAD) == (suites is not None)
            ]
            if errors:
                all_of = torch.cat(errors)
                result[f"error_{form}_{name}"] = float(all_of.mean())
                result[f"within_5_{form}_{name}"] = float((all_of <= 0.05).float().mean())
    return result


def _milliseconds(search: Any, queries: Sequence[Tensor]) -> float:
    """Median of one search, of processor time: others may use the machine."""
    times = []
    for query in queries:
        started = time.process_time()
        search(query)
        times.append(time.process_time() - started)
    return 1000 * float(np.median(times))


def _cold(memory: TaskMemory, search: Callable[[], Any]) -> tuple[float, int]:
    """Milliseconds and bytes read from disk of a search of which nothing is in memory, as where a
    bank is larger than that; every block was checked before."""
    files: Any = memory.contents
    for file in files.files:
        file._map.madvise(mmap.MADV_DONTNEED)
        with open(file.path, "rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before, started = _read_bytes(), time.perf_counter()
    search()
    return 1000 * (time.perf_counter() - started), _read_bytes() - before


def _read_bytes() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def _against_all(bank: Bank, asked: Asked, found: Sequence[Any], k: int) -> list[dict[str, Tensor]]:
    """Recall, and errors of the output, of every query: one number a query head."""
    layer = bank.layers[0]
    assert layer is not None
    held, index = layer.held(), bank.index(0)
    rows: list[dict[str, list[Tensor]]] = [{} for _ in found]
    for head in range(held.kv_heads):
        keys, values = held.keys[head].float(), held.values[head].float()
        row_of = torch.empty(len(keys), dtype=torch.long)
        row_of[held.index[head].long()] = torch.arange(len(keys))
        tail = None if index is None else Tail(index.heads[head], values)
        for row, query, one in zip(rows, asked.queries[:, head], found, strict=True):
            logits = query @ keys.T
            best = logits.amax(0).topk(k).indices
            logits = logits * asked.scaling
            total = logits.logsumexp(-1)
            output = (logits - total[:, None]).exp() @ values
            taken = row_of[one.index[0, head].long()]
            exact, mine = logits[:, best].logsumexp(-1), logits[:, taken].logsumexp(-1)
            outputs = {
                "found": logits[:, taken].softmax(-1) @ values[taken],
                "exact": logits[:, best].softmax(-1) @ values[best],
            }
            if tail is not None:
                outputs["tail"] = tail.added(query, logits, values, taken, asked.scaling)
            numbers = {
                "recall": (mine - exact).exp().clamp(max=1),
                "share": (exact - total).exp(),
            }
            for name, short in outputs.items():
                numbers[name] = (short - output).norm(dim=-1) / output.norm(dim=-1)
            for name, number in numbers.items():
                row.setdefault(name, []).append(number)
    return [{name: torch.cat(parts) for name, parts in row.items()} for row in rows]


class Tail:
    """What a search left in every list of a head: as one mean key, one mean value, as many tokens,
    and a spread of their logits."""

    def __init__(self, index: HeadIndex, values: Tensor) -> None:
        self.lists = index.lists
        numbers = torch.arange(len(index.lists.sizes))
        lists = torch.repeat_interleave(numbers, index.lists.sizes.long())
        self.owner = torch.repeat_interleave(lists, index.leaves.sizes.long())
        self.counts = self.owner.bincount(minlength=len(numbers)).float()
        sums = values.new_zeros(len(numbers), values.shape[1]).index_add_(0, self.owner, values)
        self.values = sums / self.counts[:, None]

    def added(
        self, query: Tensor, logits: Tensor, values: Tensor, taken: Tensor, scaling: float
    ) -> Tensor:
        """The output over the tokens taken and the tail."""
        left = self.counts - self.owner[taken].bincount(minlength=len(self.counts)).float()
        spread = query.norm(dim=1, keepdim=True) * self.lists.spreads * scaling
        tail = query @ self.lists.centres.float().T * scaling + spread.square() / 2 + left.log()
        both = torch.cat([logits[:, taken], tail], -1)
        return both.softmax(-1) @ torch.cat([values[taken], self.values])


# ---------------------------------------------------------------------- the command


def main() -> None:
    """Make what is missing, measure, print a line of JSON a size."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--out", type=Path, required=True, help="a folder for keys and banks")
    made.add_argument("--model", default="reference")
    made.add_argument("--tokens", type=int, default=1_000_000)
    made.add_argument("--sizes", default="10000,100000,1000000")
    made.add_argument("--layers", default="1,3,4", help="layers to read; the last is measured last")
    made.add_argument("--suites", default=SUITES)
    made.add_argument("--split", default="held-out")
    made.add_argument("--first-seed", type=int, default=0)
    made.add_argument("--queries", type=int, default=100)
    made.add_argument("--top-k", type=int, default=96)
    made.add_argument("--measure", action="store_true", help="the bank that lies in --out")
    given = made.parse_args()
    if not (given.out / "tasks.json").exists():
        read_tasks(given, given.out)
    for layer in given.layers.split(","):
        for size in given.sizes.split(","):
            asked = load(given.out, int(layer), int(size), given.queries)
            place = given.out / "bank.tasm"
            if given.measure:
                memory = tasm.load(place)
                result = {"layer": int(layer), **measure(memory, without_bank(asked), given.top_k)}
                print(json.dumps({name: _short(value) for name, value in result.items()}))
                continue
            seconds = save(asked, place)
            del asked
            index = sum(path.stat().st_size for path in place.glob("index-*"))
            print(f"saved in {seconds:.0f} s, index {index / 1e6:.1f} MB", flush=True)
            # In a process of its own, that never held the bank.
            own = ["--layers", layer, "--sizes", size, "--measure"]
            subprocess.run([sys.executable, *sys.argv, *own], check=True)
            shutil.rmtree(place)


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
