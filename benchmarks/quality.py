"""Accuracy of recipes at several budgets, every episode encoded once.

    python benchmarks/quality.py --model reference --suites bind,needle --seeds 3 \
        --recipes compact,kvzip,recent --core 20%,10%,5%
    python benchmarks/quality.py --model FOLDER --files DIR/past-0,DIR/past-1 --core 50%,20%

`--files` names folders with demonstrations.jsonl and queries.jsonl; their names up to the last
`-` are the tasks. Demonstrations are read once and read again once; every recipe and budget
compresses what that left, as a build would. Prints a table and writes one JSON line a cell.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import torch

import tasm
from tasm.answer import ask_all
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.given import as_backbone
from tasm.bench.sources import parse_suites, read_episode
from tasm.compress.calibrate import calibrate, gate_queries
from tasm.compress.compressor import Compressor, Newest
from tasm.compress.entries import entries_of
from tasm.compress.parts.base import Parts
from tasm.compress.prefill import collected, token_table
from tasm.compress.recipes.recipe import Recipe
from tasm.compress.recipes.table import find_recipe
from tasm.compress.records.recorder import Recorder
from tasm.compress.records.row_rules import Rows
from tasm.compress.replay import ReadAgain, Replay, alone
from tasm.compress.settings import Settings, targets
from tasm.demonstrations import is_correct
from tasm.memory import Bank, LayerTokens, TaskMemory


@dataclass(frozen=True, eq=False)
class RememberedReplay(Replay):
    """A replay that reads over the whole memory once, with every record that any recipe wants."""

    wanted: tuple[Any, ...] = ()
    remembered: Any = None

    def read(
        self,
        layers: Mapping[int, LayerTokens],
        records: tuple[Any, ...] = (),
        **options: Any,
    ) -> ReadAgain:
        """As a replay's; over the whole memory it is read once."""
        if not records and not options.get("keep_inputs"):  # a trial, of whatever is tried
            return super().read(layers, records, **options)
        if "reading" not in self.remembered:
            started = time.perf_counter()
            self.remembered["reading"] = super().read(layers, self.wanted, keep_inputs=True)
            self.remembered["seconds"] = time.perf_counter() - started
        reading: ReadAgain = self.remembered["reading"]
        return replace(reading, held={n: dict(held) for n, held in reading.held.items()})


class Encoded:
    """One episode, read once, ready to be compressed by any recipe."""

    def __init__(
        self, backbone: Any, demonstrations: Sequence[Any], recipes: Iterable[Recipe]
    ) -> None:
        self.backbone, self.demonstrations = backbone, demonstrations
        self.transcript = transcript = backbone.transcript(demonstrations)
        parts = [Parts.of(recipe) for recipe in recipes]
        records = [record for part in parts for record in part.records]
        again = [record for part in parts for record in part.replayed]
        self.asked = gate_queries(len(transcript.spans))
        started = time.perf_counter()
        with torch.no_grad(), Recorder(backbone, [*records, self.asked]) as recorder:
            cache = MemoryCache.empty(backbone.hf.config)
            rows = Rows(
                transcript.roles.to(backbone.device),
                transcript.demonstration.to(backbone.device),
                transcript.answer_numbers.to(backbone.device),
                0,
                len(transcript),
            )
            recorder.start(rows, cache)
            backbone.encode(transcript.chunk(0, len(transcript.spans)), cache)
            recorder.stop()
            cache.commit()
        self.seconds = time.perf_counter() - started
        self.recorder = recorder
        self.segments, self.states = list(cache.segments), cache.states
        self.next_position = cache.next_position
        kinds = backbone.geometry.layer_kinds
        self.tokens = token_table(transcript, [cache.positions], len(transcript), backbone.device)
        self.replay = RememberedReplay(
            backbone,
            tuple(alone(transcript, number) for number in range(len(transcript.spans))),
            tuple(
                None if kind == "full" else one
                for kind, one in zip(kinds, self.segments, strict=True)
            ),
            self.states,
            cache.next_position,
            cache.logical_length,
            len(transcript),
            tuple(dict.fromkeys(again)),
            {},
        )

    def build(self, recipe: Recipe, core: str, bank: str | None = None, seed: int = 0) -> Any:
        """Return the memory that a build would, but for what a build says of itself."""
        settings = Settings.of(
            recipe=recipe,
            core=None if recipe.keeps_everything else core,
            bank=bank,
            mode="joint",
            chunk_tokens=None,
            system=None,
            max_pixels=None,
            store=None,
            seed=seed,
        )
        budget = targets(settings, self.backbone, self.transcript, lambda sentence: None)
        compressor = Compressor(self.backbone, settings, budget, len(self.transcript))
        listened = SimpleNamespace(
            layer=self.recorder.layer,
            scalings=self.recorder.scalings,
            keep=lambda layer, order: None,
            forget_columns=lambda layer: None,
        )
        segments = list(self.segments)
        with torch.no_grad():
            compressor.stage(
                segments, listened, self.tokens, Newest(0, len(self.transcript)), self.replay
            )
            kept = collected(
                compressor,
                self.segments,
                self.tokens,
                self.states,
                self.next_position,
                self.seconds,
            )
            reference = None
            if budget.bank > 0 and settings.gate.kind == "js":
                rotary = self.backbone.rotary.for_length(len(self.transcript))
                spans, quantile = self.transcript.spans, settings.quantile
                reference = calibrate(kept, self.recorder, spans, rotary, quantile)
        has_bank = any(layer is not None for layer in kept.bank)
        return TaskMemory(
            core=kept.core,
            bank=Bank(kept.bank) if has_bank else None,
            tokens=self.tokens.to("cpu"),
            gate=settings.gate if has_bank else None,
            reference=reference,
            states=None if all(state is None for state in self.states) else self.states,
            next_position=self.next_position,
            logical_length=len(self.transcript),
            full_bytes=budget.full_bytes,
            geometry=self.backbone.geometry,
            identity=self.backbone.identity,
            layout=self.transcript.layout,
            recipe=settings.to_json() | {"notes": compressor.notes},
            model_name=self.backbone.name,
            demonstrations=entries_of(self.demonstrations, self.transcript),
        )


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
            plan += [(recipe, core) for core in given.core.split(",") for recipe in recipes]
            for recipe, core in plan:
                started = time.perf_counter()
                memory = encoded.build(recipe, core, seed=seed)
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
                        "taken": memory.recipe["notes"].get("taken"),
                        "tried": memory.recipe["notes"].get("tried"),
                        "core_bytes": memory.core_bytes,
                        "bank_bytes": memory.bank_bytes,
                        "full_bytes": memory.full_bytes,
                        "encode_seconds": round(encoded.seconds, 3),
                        "replay_seconds": round(encoded.replay.remembered.get("seconds", 0), 3),
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
    made.add_argument("--recipes", default="compact,kvzip,snapkv,h2o,recent")
    made.add_argument("--out", help="a file for one JSON line a cell")
    return made


if __name__ == "__main__":
    arguments = parser().parse_args()
    print(measure(arguments, [find_recipe(name) for name in arguments.recipes.split(",")]))
