"""How well explanations tell what an answer rests on, and which demonstrations are mislabelled.

    python benchmarks/explaining.py answers --seeds 2 --queries 4
    python benchmarks/explaining.py labels --seeds 3 --corrupt 0.15
    python benchmarks/explaining.py time

The truth is what masking demonstrations does to the log-odds of the answer that the memory gave.
Held-out classes of the bundled model's suites.
"""

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor

import tasm
from tasm.answer.explaining.masking import masked_scores
from tasm.bench.sources import parse_suites
from tasm.check.suspects import suspects
from tasm.demonstrations import Demonstration, Message, content_hash

ABLATIONS = 64


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1, ties sharing their mean."""
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[inverse]


def spearman(first: Tensor, second: Tensor) -> float:
    """Spearman's correlation; 0 where one side says nothing."""
    a, b = (ranks(one) - ranks(one).mean() for one in (first, second))
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 else 0.0


def lasso(masks: Tensor, outcomes: Tensor, alpha: float, rounds: int = 100) -> Tensor:
    """Weights of least squares with an L1 penalty on standardised columns, by coordinate descent;
    as scikit-learn's Lasso, whose loss is halved and a mean over rows."""
    deviation = masks.std(0, unbiased=False).clamp_min(1e-9)
    columns = (masks - masks.mean(0)) / deviation
    weights = torch.zeros(masks.shape[1], dtype=torch.double)
    rest = outcomes - outcomes.mean()
    for _ in range(rounds):
        for number in range(len(weights)):
            column = columns[:, number]
            rest = rest + column * weights[number]
            slope = column @ rest / len(rest)
            weights[number] = torch.sign(slope) * (slope.abs() - alpha).clamp_min(0)
            rest = rest - column * weights[number]
    return weights / deviation


def drawn(count: int, seed: str) -> tuple[list[list[int]], Tensor]:
    """Maskings that each hide half of the demonstrations, and (maskings, count) what they keep."""
    draw = random.Random(seed)
    hidden = [[n for n in range(count) if draw.random() < 0.5] for _ in range(ABLATIONS)]
    kept = torch.ones(ABLATIONS, count, dtype=torch.double)
    for row, numbers in enumerate(hidden):
        kept[row, numbers] = 0
    return hidden, kept


def ways(
    model: tasm.Model, memory: tasm.TaskMemory, query: tasm.Query, seed: str
) -> dict[str, tuple[float, float]]:
    """Each way's linear datamodeling score and the log-probability that its first demonstration
    takes away."""
    answer = model.ask_all(memory, [query], explain=True)[0]
    shares = answer.demonstrations
    ends = len(answer.log_probabilities) > len(answer.token_ids)
    count = len(shares)
    fitted, fitted_on = drawn(count, f"fit {seed}")
    judged, judged_on = drawn(count, f"judge {seed}")
    found = masked_scores(
        model.backbone,
        memory,
        query,
        answer.token_ids,
        [-1, *range(count), *fitted, *judged],
        ends=ends,
    )
    odds, said = found.log_odds.double(), found.log_probabilities
    outcomes = odds[1 + count : 1 + count + ABLATIONS]
    tokens = len(answer.token_ids) + ends
    given = {
        "attention": [one.attention for one in shares],
        "weight": [one.weight for one in shares],
        "support": [one.support for one in shares],
        "effect": (odds[0] - odds[1 : 1 + count]).tolist(),
        "ContextCite": (lasso(fitted_on, outcomes / tokens, 0.01) * tokens).tolist(),
        "ContextCite, tuned": (lasso(fitted_on, outcomes / tokens, 0.1) * tokens).tolist(),
    }
    truth = odds[1 + count + ABLATIONS :]
    scores = {}
    for name, values in given.items():
        each = torch.tensor(values, dtype=torch.double)
        top = int(each.argmax())
        scores[name] = (spearman(judged_on @ each, truth), float(said[0] - said[1 + top]))
    return scores


def memories(given: argparse.Namespace, labels: bool) -> Iterator[tuple[str, str, int, Any, Any]]:
    """(suite, recipe, seed, episode, demonstrations) of every memory to be built."""
    suites = given.suites.split(",")
    if labels:
        suites = [name for name in suites if name != "needle"]  # all its answers are one word
    for source in parse_suites(",".join(suites), queries=given.queries, split=given.split):
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            with source.open(seed) as episode:
                for recipe in given.recipes.split(","):
                    yield source.label, recipe, seed, episode, list(episode.demonstrations)


def answers(given: argparse.Namespace, model: tasm.Model) -> None:
    """Print each way's two scores by recipe and suite."""
    found: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = {}
    for suite, recipe, seed, episode, rows in memories(given, labels=False):
        memory = tasm.build(model, rows, recipe=recipe, core=given.core, notice=None)
        for query in episode.queries:
            for way, scores in ways(model, memory, query, f"{seed} {query.id}").items():
                by_suite = found.setdefault(recipe, {}).setdefault(way, defaultdict(list))
                by_suite[suite].append(scores)
    for recipe, by_way in found.items():
        suites = list(next(iter(by_way.values())))
        print(
            f"\n{recipe}: LDS, and nats lost without the first\n| |", " | ".join(suites), "| all |"
        )
        for way, by_suite in by_way.items():
            pairs = [[fmean(column) for column in zip(*by_suite[s], strict=True)] for s in suites]
            pairs.append([fmean(column) for column in zip(*pairs, strict=True)])
            print(f"| {way} |", " | ".join(f"{lds:.2f}, {drop:.3f}" for lds, drop in pairs), "|")


def auroc(scores: Sequence[float], wrong: Sequence[bool]) -> float:
    """The share of pairs of a wrong and a right one in which the wrong one has the larger score."""
    bad = [score for score, is_wrong in zip(scores, wrong, strict=True) if is_wrong]
    good = [score for score, is_wrong in zip(scores, wrong, strict=True) if not is_wrong]
    return fmean((b > g) + 0.5 * (b == g) for b in bad for g in good)


def corrupted(
    rows: Sequence[Demonstration], share: float, seed: int
) -> tuple[list[Demonstration], list[bool]]:
    """The demonstrations with a share of their labels exchanged for others of the set; only labels
    that several have are taken and given."""
    draw = random.Random(seed)
    answers = [one.answer for one in rows]
    labels = sorted({one for one in answers if answers.count(one) > 1})
    may = [number for number, one in enumerate(answers) if one in labels]
    wrong = set(draw.sample(may, max(1, round(share * len(rows)))))
    changed = []
    for number, one in enumerate(rows):
        if number in wrong:
            label = draw.choice([other for other in labels if other != one.answer])
            messages = (*one.messages[:-1], Message("assistant", (label,)))
            one = replace(one, messages=messages, content_hash=content_hash(messages))
        changed.append(one)
    return changed, [number in wrong for number in range(len(rows))]


def labels(given: argparse.Namespace, model: tasm.Model) -> None:
    """Print how well suspicion finds exchanged labels, by recipe and suite."""
    found: dict[str, dict[str, list[tuple[float, ...]]]] = {}
    for suite, recipe, seed, _, rows in memories(given, labels=True):
        changed, wrong = corrupted(rows, given.corrupt, seed)
        memory = tasm.build(model, changed, recipe=recipe, core=given.core, notice=None)
        by_id = {one.id: one for one in suspects(model, memory, changed)}
        ordered = [by_id[one.id] for one in changed]
        flagged = [one.is_suspect for one in ordered]
        hits = sum(a and b for a, b in zip(flagged, wrong, strict=True))
        scores = (
            auroc([one.suspicion for one in ordered], wrong),
            auroc([-one.log_probability for one in ordered], wrong),
            hits / sum(wrong),
            hits / max(1, sum(flagged)),
        )
        found.setdefault(recipe, {}).setdefault(suite, []).append(scores)
    print("\n| recipe | suite | AUROC | of its log-probability alone | found | right |")
    for recipe, by_suite in found.items():
        means = {
            name: [fmean(column) for column in zip(*scores, strict=True)]
            for name, scores in by_suite.items()
        }
        means["all"] = [fmean(column) for column in zip(*means.values(), strict=True)]
        for name, row in means.items():
            print(f"| {recipe} | {name} |", " | ".join(f"{one:.3f}" for one in row), "|")


def clock(given: argparse.Namespace, model: tasm.Model) -> None:
    """Print what explaining costs beside one answer: processor time, in turns, medians."""
    for suite, recipe, _, episode, rows in memories(given, labels=False):
        memory = tasm.build(model, rows, recipe=recipe, core=given.core, notice=None)
        query = episode.queries[0]
        taken: dict[str, list[float]] = defaultdict(list)
        for turn in range(given.turns + 1):
            for name, explain in (("bare", False), ("attention", True), ("ablation", "ablation")):
                started = time.process_time()
                model.ask_all(memory, [query], explain=explain)
                if turn:
                    taken[name].append(time.process_time() - started)
        bare = median(taken["bare"])
        ratios = [f"{name} {median(times) / bare:.3f}" for name, times in taken.items()]
        print(
            f"{suite}, {recipe}: an answer takes {1000 * bare:.0f} ms of processor time;",
            ", ".join(ratios),
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("what", choices=("answers", "labels", "time"))
    parser.add_argument("--suites", default="bind,needle,digits,mixed,rule")
    parser.add_argument("--recipes", default="tasm,compact")
    parser.add_argument("--core", default="20%")
    parser.add_argument("--split", default="held-out")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--corrupt", type=float, default=0.15)
    parser.add_argument("--model", default="reference")
    parser.add_argument("--turns", type=int, default=11)
    given = parser.parse_args()
    model = tasm.load_model(given.model)
    {"answers": answers, "labels": labels, "time": clock}[given.what](given, model)


if __name__ == "__main__":
    main()
