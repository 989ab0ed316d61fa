"""What reading demonstrations one by one costs: accuracy of recipes by build mode.

    python benchmarks/modes.py --seeds 2 --recipes full,compact,tasm --shown 1,6

Every cell is a build of its own, on held-out classes of the bundled model's suites.
"""

import argparse
from collections import defaultdict
from statistics import fmean
from typing import Any

import tasm
from tasm.answer import ask_all
from tasm.backbone.given import as_backbone
from tasm.bench.sources import parse_suites
from tasm.compress.recipes.table import find_recipe
from tasm.demonstrations import is_correct

MODES = ("joint", "independent", "streaming")
"""An independent one for every number of demonstrations that are shown to all others."""


def accuracy(backbone: Any, memory: Any, queries: Any) -> float:
    """The share of right answers."""
    answers = ask_all(backbone, memory, queries, batch_size=40)
    pairs = zip(answers, queries, strict=True)
    return fmean(float(is_correct(answer.text, query.answers)) for answer, query in pairs)


def cells(modes: list[str], shown: list[str]) -> list[tuple[str, int]]:
    """The builds of one recipe: mode, and how many demonstrations are shown to all others."""
    return [
        (mode, int(count))
        for mode in modes
        for count in (shown if mode == "independent" else ["1"])
    ]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--suites", default="bind,needle,late,rule,locate,digits")
    parser.add_argument("--recipes", default="full,compact,tasm")
    parser.add_argument("--core", default="20%")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--shown", default="1")
    parser.add_argument("--split", default="held-out")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--queries", type=int, default=40)
    given = parser.parse_args()
    backbone = as_backbone(tasm.load_model("reference"))
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    stored: dict[tuple[str, str], list[float]] = defaultdict(list)
    for source in parse_suites(given.suites, queries=given.queries, split=given.split):
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            with source.open(seed) as episode:
                for name in given.recipes.split(","):
                    core = None if find_recipe(name).keeps_everything else given.core
                    for mode, shown in cells(given.modes.split(","), given.shown.split(",")):
                        memory = tasm.build(
                            backbone,
                            episode.demonstrations,
                            recipe=name,
                            core=core,
                            mode=mode,  # type: ignore[arg-type]
                            shown=shown,
                            notice=None,
                        )
                        share = accuracy(backbone, memory, episode.queries)
                        called = mode if mode != "independent" else f"{mode}, {shown} shown"
                        found[name, called][source.label].append(share)
                        stored[name, called].append(memory.report["core_tokens"])
    for (name, mode), suites in found.items():
        means = [fmean(shares) for shares in suites.values()]
        kept = f"{fmean(stored[name, mode]):.0f} tokens"
        print(
            f"| {name} | {mode} |",
            " | ".join(f"{x:.3f}" for x in [*means, fmean(means)]),
            "|",
            kept,
        )


if __name__ == "__main__":
    main()
