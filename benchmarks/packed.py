"""What fewer bits cost: accuracy and bytes of the same memories, stored in several ways.

    python benchmarks/packed.py --model reference --recipes compact,tasm --core 20%,5% \
        --stores float16,int8,int4,kivi4
    python benchmarks/packed.py --model FOLDER --files DIR/past-0,DIR/past-1 --core 20%

A budget such as `5%+31%` is a core and a bank. Every episode is encoded once, every memory
compressed once; then each store packs it anew. Bytes are those of every tensor, in shares of the
keys and values of all tokens in 16 bits. `kivi4` and `kivi2` are a published quantiser
(benchmarks/peers/kivi.py), `quanto4`, `hqq4` and `hqq8` transformers' own quantised cache
(benchmarks/peers/quantised_cache.py), both for memories without a bank.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from peers.kivi import kivi
from peers.quantised_cache import quantised_cache
from quality import accuracy, episodes, journal, parser

import tasm
from tasm.backbone.given import as_backbone
from tasm.compress.encoded import Encoded
from tasm.compress.recipes.table import find_recipe
from tasm.memory import TaskMemory

Stored = tuple[TaskMemory, int]


def _plain(memory: TaskMemory, backbone: Any, dtype: torch.dtype) -> Stored:
    stored = memory.store_as(dtype)
    return stored, stored.core_bytes + stored.bank_bytes


def _packed(memory: TaskMemory, backbone: Any, store: Any) -> Stored:
    stored = memory.packed(store, backbone)
    return stored, stored.core_bytes + stored.bank_bytes


def _kivi(memory: TaskMemory, backbone: Any, bits: int) -> Stored:
    return kivi(memory.store_as(torch.float16), bits)


def _cache(memory: TaskMemory, backend: str, bits: int) -> Stored:
    return quantised_cache(memory.store_as(torch.float16), backend, bits)


OURS = ("float32", "float16", "int8", "int4")

STORES: dict[str, Callable[[TaskMemory, Any], Stored]] = {
    "float32": lambda memory, backbone: _plain(memory, backbone, torch.float32),
    "float16": lambda memory, backbone: _plain(memory, backbone, torch.float16),
    "int8": lambda memory, backbone: _packed(memory, backbone, "int8"),
    "int4": lambda memory, backbone: _packed(memory, backbone, "int4"),
    "quanto4": lambda memory, backbone: _cache(memory, "quanto", 4),
    "hqq4": lambda memory, backbone: _cache(memory, "hqq", 4),
    "hqq8": lambda memory, backbone: _cache(memory, "hqq", 8),
    "kivi4": lambda memory, backbone: _kivi(memory, backbone, 4),
    "kivi2": lambda memory, backbone: _kivi(memory, backbone, 2),
}


def cells(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row for every episode, recipe, core and store."""
    backbone = as_backbone(tasm.load_model(given.model))
    recipes = [find_recipe(name) for name in given.recipes.split(",")]
    for task, seed, episode in episodes(given):
        encoded = Encoded(backbone, episode.demonstrations, recipes)
        for budget in given.core.split(","):
            core, _, bank = budget.partition("+")
            for recipe in recipes:
                if recipe.keeps_everything and budget != given.core.split(",")[0]:
                    continue
                memory = encoded.build(
                    recipe,
                    core=None if recipe.keeps_everything else core,
                    bank=bank or given.bank,
                    seed=seed,
                )
                full = memory.full_bytes * 2 // getattr(torch, memory.dtype).itemsize
                for store in given.stores.split(","):
                    if store not in OURS and memory.bank is not None:
                        continue
                    started = time.perf_counter()
                    stored, size = STORES[store](memory, backbone)
                    seconds = time.perf_counter() - started
                    yield {
                        "task": task,
                        "seed": seed,
                        "recipe": recipe.name,
                        "core": "100%" if recipe.keeps_everything else budget,
                        "store": store,
                        "accuracy": accuracy(backbone, stored, episode.queries),
                        "bytes": size,
                        "full_bytes": full,
                        "pack_seconds": round(seconds, 3),
                    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table of means by task, and of bytes."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["recipe"], row["core"], row["store"]].append(row)
    lines = ["| recipe | core | store | " + " | ".join(tasks) + " | mean | bytes |"]
    lines.append("|---" * (len(tasks) + 5) + "|")
    for (recipe, core, store), found in sorted(groups.items(), key=lambda g: g[0][:2]):
        means = [
            fmean([r["accuracy"] for r in found if r["task"] == task] or [float("nan")])
            for task in tasks
        ]
        share = fmean(row["bytes"] / row["full_bytes"] for row in found)
        numbers = [*(f"{mean:.3f}" for mean in means), f"{fmean(means):.4f}"]
        lines.append("| " + " | ".join([recipe, core, store, *numbers, f"{share:.2%}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    made = parser()
    made.description = __doc__.splitlines()[0]
    made.set_defaults(recipes="compact,tasm", core="20%,5%")
    made.add_argument("--stores", default="float16,int8,int4")
    made.add_argument("--bank", help="the bank's size instead of the recipe's own")
    made.add_argument("--read", type=Path, help="print the table of a file that --out wrote")
    given = made.parse_args()
    if given.read is not None:
        print(table([json.loads(line) for line in given.read.read_text().splitlines()]))
        return
    rows = []
    with journal(given.out) as file:
        for row in cells(given):
            rows.append(row)
            if file is not None:
                file.write(json.dumps(row) + "\n")
                file.flush()
    print(table(rows))


if __name__ == "__main__":
    main()
