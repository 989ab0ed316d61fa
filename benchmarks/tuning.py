"""How well `tasm tune` sizes a memory, and how true its estimates and confidences are.

    python benchmarks/tuning.py --suites bind,digits --seeds 10 --out tuning.jsonl

For every suite and seed: the core that `tune` takes and, with `--exhaustive`, the smallest of its
grid that reaches the target; its estimate of accuracy beside that of queries it never saw; free
answers beside labels; with `--foreign`, how well doubt tells other suites' queries; the calibration
error of the labels' confidences, pooled over seeds at the end, plain and by the temperature that
tuning found. Writes one JSON line a seed.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import tasm
from tasm.answer import Answer
from tasm.answer.confidence import calibration_error
from tasm.answer.labels import as_labels
from tasm.backbone.given import as_backbone
from tasm.bench.sources import parse_suites
from tasm.compress.encoded import Encoded
from tasm.compress.recipes.table import find_recipe
from tasm.errors import InputError
from tasm.sizing.judge import Judge
from tasm.sizing.search import grid

CALIBRATIONS = ("none", "contextual", "demonstrations")


def exhaustive(backbone: Any, episode: Any, recipe: Any, target: float) -> tuple[str, float]:
    """Return the smallest core of the grid that reaches the target, and the seconds it took."""
    started = time.perf_counter()
    judge = Judge(
        episode.demonstrations, lambda some: Encoded(backbone, some, [recipe]), batch_size=40
    )
    judge.full = judge.answers(find_recipe("full"), None)
    for core in grid(judge.whole.smallest(recipe)):
        if judge.evaluate(recipe, core).agreement >= target:
            return core, time.perf_counter() - started
    raise AssertionError("The whole context agrees with itself.")


def accuracy(answers: Sequence[Answer]) -> float:
    """Return the share of right answers."""
    return fmean(float(bool(answer.correct)) for answer in answers)


def foreign_queries(name: str, seed: int, given: argparse.Namespace) -> Any:
    """Return another suite's queries of the same seed."""
    (source,) = parse_suites(name, queries=given.queries, split=given.split)
    with source.open(seed) as episode:
        return [
            tasm.make_query(query.question, images=[one.load() for one in query.pictures])
            for query in episode.queries
        ]


def auroc(own: Sequence[float], foreign: Sequence[float]) -> float:
    """Return how often a foreign query is doubted more than an own one, a tie half."""
    return fmean(float(b > a) + 0.5 * (a == b) for a in own for b in foreign)


def measure(given: argparse.Namespace) -> None:
    """Print a line a seed and what is pooled over them."""
    model = tasm.load_model(given.model)
    backbone, recipe = as_backbone(model), find_recipe(given.recipe)
    sure: dict[tuple[str, str], list[tuple[float, bool]]] = defaultdict(list)
    for source in parse_suites(given.suites, queries=given.queries, split=given.split):
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            with source.open(seed) as episode:
                tuned = tasm.tune(
                    model,
                    episode.demonstrations,
                    recipes=recipe,
                    target_agreement=given.target,
                    batch_size=40,
                )
                assert tuned.chosen is not None and tuned.memory is not None
                free = model.ask_all(tuned.memory, episode.queries, batch_size=40)
                row: dict[str, Any] = {
                    "suite": source.label,
                    "seed": seed,
                    "core": tuned.chosen.core,
                    "evaluations": len(tuned.evaluations),
                    "agreement": tuned.chosen.agreement,
                    "estimate": tuned.accuracy,
                    "interval": tuned.interval,
                    "held_out": accuracy(free),
                    "temperature": tuned.temperature,
                    "seconds": tuned.seconds,
                }
                try:
                    labels = as_labels("demonstrations", tuned.memory)
                except InputError:
                    labels = ()
                for calibration in CALIBRATIONS if labels and tuned.temperature else ():
                    answers = model.ask_all(
                        tuned.memory,
                        episode.queries,
                        labels=labels,
                        calibration=calibration,
                        batch_size=40,
                    )
                    row[f"labels_{calibration}"] = accuracy(answers)
                    pairs = [(answer.confidence or 0.0, bool(answer.correct)) for answer in answers]
                    row[f"confidences_{calibration}"] = pairs
                    sure[source.label, calibration] += pairs
                if given.foreign:
                    row["foreign_auroc"] = {
                        name: auroc(
                            [answer.doubt or 0.0 for answer in free],
                            [
                                answer.doubt or 0.0
                                for answer in model.ask_all(
                                    tuned.memory, foreign_queries(name, seed, given), batch_size=40
                                )
                            ],
                        )
                        for name in given.foreign.split(",")
                    }
                if given.exhaustive:
                    row["smallest"], row["exhaustive_seconds"] = exhaustive(
                        backbone, episode, recipe, given.target
                    )
                print(json.dumps(row), flush=True)
                if given.out:
                    with open(given.out, "a") as file:
                        file.write(json.dumps(row) + "\n")
    for (suite, calibration), pairs in sure.items():
        error = calibration_error([one for one, _ in pairs], [right for _, right in pairs])
        print(f"{suite} {calibration}: calibration error {error:.4f} over {len(pairs)} answers")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--model", default="reference")
    made.add_argument("--suites", default="bind,digits")
    made.add_argument("--split", default="held-out")
    made.add_argument("--first-seed", type=int, default=0)
    made.add_argument("--seeds", type=int, default=10)
    made.add_argument("--queries", type=int, default=40)
    made.add_argument("--recipe", default="tasm")
    made.add_argument("--target", type=float, default=0.95)
    made.add_argument("--foreign", help="suites whose queries should be doubted")
    made.add_argument("--exhaustive", action="store_true")
    made.add_argument("--out", help="a file for one JSON line a seed")
    return made


if __name__ == "__main__":
    measure(parser().parse_args())
