"""Accuracy of recipes at several budgets, every episode encoded once.

    python benchmarks/quality.py --model reference --suites bind,needle --seeds 3 \
        --recipes compact,kvzip,recent --core 20%,10%,5%
    python benchmarks/quality.py --model FOLDER --files DIR/past-0,DIR/past-1 --core 50%,20%
    python benchmarks/quality.py --recipes compact,compact-int4,kvzip-int4 --bytes 10%,5%

`--bytes` gives every recipe the same stored bytes instead of the same core, in shares of the full
context; of recipes in four bits, of the full context in 16 bits.

`--files` names folders with demonstrations.jsonl and queries.jsonl; their names up to the last
`-` are the tasks. Demonstrations are read once and read again once; every recipe and budget
compresses what that left, as a build would. Prints a table and writes one JSON line a cell.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import tasm
from tasm.answer import ask_all
from tasm.backbone.given import as_backbone
from tasm.bench.measure import stored_share
from tasm.bench.sources import parse_suites, read_episode
from tasm.compress.encoded import Encoded
from tasm.compress.recipes.recipe import Recipe
from tasm.compress.recipes.table import find_recipe
from tasm.demonstrations import is_correct


def accuracy(backbone: Any, memory: Any, queries: Sequence[Any], batch: int = 40) -> float:
    """Return the share of right answers."""
    answers = ask_all(backbone, memory, queries, batch_size=batch)
    return fmean(
        float(is_correct(answer.text, query.answers))
        for answer, query in zip(answers, queries, strict=True)
    )


def episodes(given: argparse.Namespace) -> Iterator[tuple[str, int, Any]]:
    """Yield (task, seed, episode), one at a time."""
    if given.files:
        for folder in given.files.split(","):
            name, _, number = Path(folder).name.rpartition("-")
            place = Path(folder)
            episode = read_episode(place / "demonstrations.jsonl", place / "queries.jsonl")
            seed = int(number)
            yield name, seed, replace(episode, queries=episode.queries[: given.queries])
        return
    for source in parse_suites(given.suites, queries=given.queries, split=given.split):
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            with source.open(seed) as episode:
                yield source.label, seed, episode


@contextmanager
def journal(path: str | None) -> Iterator[Any]:
    """A file to append to, or nothing."""
    if path is None:
        yield None
    else:
        with open(path, "a") as file:
            yield file


def table(cells: Mapping[tuple[str, str], Mapping[str, list[float]]]) -> str:
    """Return rows of means by task, and their mean."""
    tasks = list(dict.fromkeys(task for found in cells.values() for task in found))
    lines = ["| core | recipe | " + " | ".join(tasks) + " | mean |"]
    lines.append("|---" * (len(tasks) + 3) + "|")
    for (core, recipe), found in sorted(cells.items(), key=lambda c: -float(c[0][0].strip("%"))):
        means = [fmean(found[task]) if task in found else float("nan") for task in tasks]
        numbers = " | ".join(f"{mean:.3f}" for mean in means)
        lines.append(f"| {core} | {recipe} | {numbers} | **{fmean(means):.3f}** |")
    return "\n".join(lines)


def measure(given: argparse.Namespace, recipes: Sequence[Recipe]) -> str:
    """Measure every cell; returns the table."""
    backbone = as_backbone(tasm.load_model(given.model))
    cells: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    full = find_recipe("full")
    with journal(given.out) as file:
        for task, seed, episode in episodes(given):
            encoded = Encoded(backbone, episode.demonstrations, recipes)
            plan = [(full, "100%")]
            budgets = (given.bytes or given.core).split(",")
            plan += [(recipe, budget) for budget in budgets for recipe in recipes]
            for recipe, core in plan:
                started = time.perf_counter()
                wanted = {"stored" if given.bytes else "core": core}
                memory = encoded.build(
                    recipe, **({} if recipe.keeps_everything else wanted), seed=seed
                )
                seconds = time.perf_counter() - started
                share = accuracy(backbone, memory, episode.queries)
                cells[core, recipe.name][task].append(share)
                if file is not None:
                    row = {
                        "task": task,
                        "seed": seed,
                        "recipe": recipe.name,
                        "core": core,
                        "accuracy": share,
                        "taken": memory.recipe.get("notes", {}).get("taken"),
                        "tried": memory.recipe.get("notes", {}).get("tried"),
                        "stored": round(stored_share(memory), 4),
                        "core_bytes": memory.core_bytes,
                        "bank_bytes": memory.bank_bytes,
                        "full_bytes": memory.full_bytes,
                        "encode_seconds": round(encoded.seconds, 3),
                        "compress_seconds": round(seconds, 3),
                    }
                    file.write(json.dumps(row) + "\n")
                    file.flush()
    return table(cells)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--model", default="reference")
    made.add_argument("--suites", default="bind,needle,late,rule,locate,digits,mixed")
    made.add_argument("--files", help="folders NAME-SEED, instead of suites")
    made.add_argument("--split", default="held-out")
    made.add_argument("--first-seed", type=int, default=0)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--queries", type=int, default=40)
    made.add_argument("--core", default="20%,10%,5%")
    made.add_argument("--bytes", help="stored bytes, instead of --core")
    made.add_argument("--recipes", default="compact,kvzip,snapkv,h2o,recent")
    made.add_argument("--out", help="a file for one JSON line a cell")
    return made


if __name__ == "__main__":
    arguments = parser().parse_args()
    print(measure(arguments, [find_recipe(name) for name in arguments.recipes.split(",")]))
