"""What a gate costs and saves: the same memories, asked with one gate after the other.

    python benchmarks/gates.py --core 20%,5%
    python benchmarks/gates.py --model FOLDER --suites past,category,plural --core 20%
    python benchmarks/gates.py --split train --first-seed 2200 --gates own,always,missing:3:2

A gate is a name of `--gate`, with a threshold in nats, how many steps ask it, and layers, where
these are given (`missing:3:2`, `always::1`, `always:::3+5`), or `own`: the memory's, with what was
measured of it; `--gate-of tasm` makes that js. `opened` is the share of (layer, step) pairs that
retrieved, `read` the share that attended to something retrieved, then or at an earlier step; both
count every layer with a bank and every step of an answer, the reading of the question as one.
"""

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from statistics import fmean
from typing import Any

from quality import episodes, journal, parser

import tasm
from tasm.answer.ask import default_new_tokens
from tasm.answer.generation import decode, generate
from tasm.backbone.given import as_backbone
from tasm.compress.encoded import Encoded
from tasm.compress.recipes.table import find_recipe
from tasm.demonstrations import is_correct


def asked(backbone: Any, memory: Any, queries: Any, gate: str) -> tuple[float, float, float]:
    """Return accuracy, and shares of pairs that opened and that read something retrieved."""
    name, epsilon, steps, layers = (gate.split(":") + [""] * 3)[:4]
    if name != "own":
        settings = replace(
            memory.gate,
            kind=name,
            epsilon=float(epsilon) if epsilon else "calibrated",
            first_steps=int(steps) if steps else None,
            layers=tuple(map(int, layers.split("+"))) if layers else None,
        )
        memory = memory.replaced(gate=settings, reference=None)
    cache = memory.cache()
    inputs = backbone.query_inputs(queries, layout=memory.layout)
    said = generate(backbone, inputs, cache, max_new_tokens=default_new_tokens(memory)).token_ids
    correct = fmean(
        float(is_correct(decode(backbone, token_ids), query.answers))
        for token_ids, query in zip(said, queries, strict=True)
    )
    if cache.extra is None or not cache.extra.gated_layers:
        return correct, 0.0, 0.0
    calls = [len(token_ids) + 1 for token_ids in said]  # the last one said that the answer ends
    banked = sum(layer is not None for layer in memory.bank.layers)
    gated, statistics = len(cache.extra.gated_layers) / banked, cache.extra.statistics
    opened, read = fmean(statistics.triggered(calls)), fmean(statistics.attached(calls))
    return correct, gated * opened, gated * read


def measure(given: argparse.Namespace) -> str:
    """Ask every memory with every gate; returns the table."""
    backbone = as_backbone(tasm.load_model(given.model))
    recipe = find_recipe(given.recipe).with_settings(gate=find_recipe(given.gate_of).gate)
    cells: dict[tuple[str, str], dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    with journal(given.out) as file:
        for task, seed, episode in episodes(given):
            encoded = Encoded(backbone, episode.demonstrations, [recipe])
            for core in given.core.split(","):
                memory = encoded.build(recipe, core=core, seed=seed)
                for gate in given.gates.split(","):
                    found = asked(backbone, memory, list(episode.queries), gate)
                    cells[core, gate][task].append(found)
                    if file is not None:
                        row = {"task": task, "seed": seed, "core": core, "gate": gate}
                        figures = dict(zip(("accuracy", "opened", "read"), found, strict=True))
                        file.write(json.dumps(row | figures) + "\n")
                        file.flush()
    return table(cells)


def table(cells: dict[tuple[str, str], dict[str, list[Any]]]) -> str:
    """Return rows of means by task, and their means."""
    tasks = list(dict.fromkeys(task for found in cells.values() for task in found))
    lines = ["| core | gate | " + " | ".join(tasks) + " | mean | opened | read |"]
    lines.append("|---" * (len(tasks) + 5) + "|")
    for (core, gate), found in cells.items():
        means = [[fmean(column) for column in zip(*found[task], strict=True)] for task in tasks]
        accuracy, opened, read = (fmean(column) for column in zip(*means, strict=True))
        numbers = " | ".join(f"{task[0]:.3f}" for task in means)
        lines.append(
            f"| {core} | {gate} | {numbers} | **{accuracy:.3f}** | {opened:.2f} | {read:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print."""
    made = parser()
    made.description = (__doc__ or "").splitlines()[0]
    made.set_defaults(core="20%,5%")
    made.add_argument("--recipe", default="tasm")
    made.add_argument("--gate-of", default="tasm-weighing-gate", help="whose gate is their own")
    made.add_argument("--gates", default="own,always,never")
    given = made.parse_args()
    if given.bytes:
        made.error("--bytes has no effect here: the same memory is asked with every gate")
    print(measure(given))


if __name__ == "__main__":
    main()
