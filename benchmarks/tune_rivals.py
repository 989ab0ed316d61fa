"""Rivals' settings tried on training classes, at seeds that no comparison uses.

    python benchmarks/tune_rivals.py --seeds 2 --out out/tuned.jsonl

Every method gets a small grid of the settings that its paper leaves open or that fit a prompt of
questions rather than a task's demonstrations. Prints, a method, the mean accuracy over suites and
budgets of stored bytes of every setting, the published one first; writes one JSON line a cell.
What came of it are the recipes `…-tuned`.
"""

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import tasm
from tasm.answer import ask_all
from tasm.backbone.given import as_backbone
from tasm.bench.sources import parse_suites
from tasm.compress.encoded import Encoded
from tasm.compress.recipes.recipe import Part, Recipe
from tasm.compress.recipes.table import find_recipe
from tasm.demonstrations import is_correct

SUITES = "bind,needle,late,rule,locate,digits,mixed"
BUDGETS = "20%,10%,5%"
SCAN = {"kind": "always", "asking": "each"}


def grids() -> dict[str, list[Recipe]]:
    """The settings tried, by method, the published first."""
    kvzip, snapkv, h2o = find_recipe("kvzip"), find_recipe("snapkv"), find_recipe("h2o")
    expected, cam = find_recipe("expected-attention"), find_recipe("cam")
    tried = {
        "kvzip": [
            kvzip.with_settings(budget={"heads": heads, "floor": floor})
            for heads in ("each", "alike")
            for floor in (0.0, 0.1, 0.2, 0.33)
        ],
        "snapkv": [
            *(
                snapkv.with_settings(scorer={"window": window, "pool": pool})
                for window in (32, 64, 128)
                for pool in (5, 1)
            ),
            *(
                replace(snapkv, scorer=_answers(rows, pool))
                for rows in ("predictions", "answer-spans")
                for pool in (5, 3, 1)
            ),
        ],
        "h2o": [h2o.with_settings(scorer={"recent": share}) for share in (0.5, 0.25, 0.1, 0.0)],
        "expected-attention": [
            expected.with_settings(scorer={"rows": rows, "sinks": sinks, "epsilon": epsilon})
            for rows in ("all", "text", "predictions")
            for sinks in (4, 0)
            for epsilon in (0.02, 0.0)
        ],
        "cam": [
            cam.with_settings(
                scorer={"recent": share}, reducer={"values": values, "following": count}
            )
            for share in (0.5, 0.1)
            for values, count in (("added", 4), ("averaged", 4), ("averaged", 1), ("averaged", 16))
        ],
    }
    for name in ("quest", "infllm", "rekv", "delta"):
        recipe = find_recipe(name)
        tried[name] = [
            recipe,
            recipe.with_settings(gate=SCAN),
            recipe.with_settings(gate={**SCAN, "largest_share": 0.2}),
            recipe.with_settings(gate={**SCAN, "top_k": 48}),
        ]
    return tried


def _answers(rows: str, pool: int) -> Part:
    return Part(
        "answer-aware",
        {"attending": rows, "source": "reading", "answer_bonus": 0.0, "pool": pool},
    )


def emloc() -> dict[str, list[Recipe]]:
    """EMLoC's, apart: a build takes half a minute."""
    recipe = find_recipe("emloc")
    return {
        "emloc": [
            recipe,
            recipe.with_settings(scorer={"answer_bonus": 0.0}),
            recipe.with_settings(scorer={"pool": 1}),
            recipe.with_settings(scorer={"answer_bonus": 0.0, "pool": 1}),
        ]
    }


def label(recipe: Recipe) -> str:
    """A setting's name in the table."""
    scorer = recipe.scorer
    parts = {**(scorer.settings if scorer else {}), **recipe.gate}
    for part in (recipe.budget, recipe.reducer):
        parts |= part.settings if part else {}
    name = "" if scorer is None else scorer.name
    return f"{name} " + " ".join(f"{key}={value}" for key, value in parts.items())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", default="reference")
    parser.add_argument("--suites", default=SUITES)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--bytes", default=BUDGETS)
    parser.add_argument("--emloc", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    backbone = as_backbone(tasm.load_model(given.model))
    tried = emloc() if given.emloc else grids()
    found: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    for seed in seeds:
        for source in parse_suites(given.suites, queries=given.queries, split="train"):
            with source.open(seed) as episode:
                recipes = [recipe for settings in tried.values() for recipe in settings]
                encoded = Encoded(backbone, episode.demonstrations, recipes)
                for method, settings in tried.items():
                    for recipe in settings:
                        for stored in given.bytes.split(","):
                            memory = encoded.build(recipe, stored=stored, seed=seed)
                            share = right(backbone, memory, episode.queries)
                            found[method, label(recipe)][source.label, stored].append(share)
                            row = {
                                "suite": source.label,
                                "seed": seed,
                                "method": method,
                                "setting": label(recipe),
                                "stored": stored,
                                "accuracy": share,
                            }
                            with given.out.open("a") as file:
                                file.write(json.dumps(row) + "\n")
        for (method, setting), cells in found.items():
            print(f"{method:20} {fmean(map(fmean, cells.values())):.3f} {setting}", flush=True)


def right(backbone: Any, memory: Any, queries: Any) -> float:
    """The share of right answers."""
    answers = ask_all(backbone, memory, queries, batch_size=len(queries))
    pairs = zip(answers, queries, strict=True)
    return fmean(float(is_correct(answer.text, query.answers)) for answer, query in pairs)


if __name__ == "__main__":
    main()
