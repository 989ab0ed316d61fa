"""What memories that were changed answer, against one that was built at once.

    python benchmarks/changing.py --seeds 2

Of 20 demonstrations each: one independent build; one of the first and 19 added one by one; two of
ten, merged; one with the eleventh removed and added again.
"""

import argparse
from collections import defaultdict
from statistics import fmean
from typing import Any

import tasm
from tasm.answer import ask_all
from tasm.backbone.given import as_backbone
from tasm.bench.sources import parse_suites
from tasm.demonstrations import is_correct


def changed(backbone: Any, demonstrations: Any, recipe: str, shown: int) -> dict[str, Any]:
    """The four memories."""

    def build(some: Any) -> Any:
        return tasm.build(
            backbone, some, recipe=recipe, mode="independent", shown=shown, notice=None
        )

    whole = build(demonstrations)
    grown = build(demonstrations[:1])
    for one in demonstrations[1:]:
        grown = tasm.add(grown, backbone, [one], notice=None)
    middle = demonstrations[10]
    less = tasm.remove(whole, backbone, [middle.id], notice=None)
    halves = [build(demonstrations[:10]), build(demonstrations[10:])]
    return {
        "one build": whole,
        "19 adds": grown,
        "removed and added": tasm.add(less, backbone, [middle], notice=None),
        "two halves merged": tasm.merge(backbone, halves, notice=None),
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--suites", default="bind,late,rule,locate,digits")
    parser.add_argument("--recipe", default="compact")
    parser.add_argument("--shown", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    backbone = as_backbone(tasm.load_model("reference"))
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    suites = ",".join(f"{name}@20" for name in given.suites.split(","))
    for source in parse_suites(suites, queries=40, split="held-out"):
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            with source.open(seed) as episode:
                memories = changed(backbone, episode.demonstrations, given.recipe, given.shown)
                for name, memory in memories.items():
                    answers = ask_all(backbone, memory, episode.queries, batch_size=40)
                    pairs = zip(answers, episode.queries, strict=True)
                    share = fmean(float(is_correct(a.text, q.answers)) for a, q in pairs)
                    found[name][source.label].append(share)
    for name, by_suite in found.items():
        means = [fmean(shares) for shares in by_suite.values()]
        print(f"| {name} |", " | ".join(f"{x:.3f}" for x in [*means, fmean(means)]), "|")


if __name__ == "__main__":
    main()
