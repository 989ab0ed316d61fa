"""Which layers look things up? Accuracy with all demonstrations hidden from one layer at a time.

```console
$ python benchmarks/hide_a_layer.py --suites needle,late --split train --first-seed 2000
```
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from torch import Tensor

from tasm.answer import ask_all
from tasm.backbone.loading import load_backbone
from tasm.bench.sources import parse_suites
from tasm.compress.api import build
from tasm.compress.evidence import Stage
from tasm.compress.parts.base import Budget
from tasm.compress.recipes.recipe import Part
from tasm.compress.recipes.table import find_recipe
from tasm.demonstrations import is_correct


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row a layer: accuracy by suite, and `none` for the full context."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="reference")
    parser.add_argument("--suites", default="needle,late,locate,digits,rule")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--split", default="held-out")
    options = parser.parse_args(arguments)
    backbone = load_backbone(options.model)
    sources = parse_suites(options.suites, queries=options.queries, split=options.split)
    hidden = [None, *range(backbone.geometry.layers)]
    found: dict[int | None, list[float]] = {layer: [] for layer in hidden}
    for source in sources:
        right: dict[int | None, list[float]] = {layer: [] for layer in hidden}
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            with source.open(seed) as episode:
                for layer in hidden:
                    budget = Part("hide_a_layer:WithoutLayer", {"layer": layer})
                    recipe = replace(find_recipe("random"), budget=budget)
                    memory = build(backbone, episode.demonstrations, recipe=recipe)
                    answers = ask_all(backbone, memory, episode.queries, batch_size=40)
                    pairs = zip(answers, episode.queries, strict=True)
                    right[layer] += [is_correct(a.text, q.answers) for a, q in pairs]
        for layer in hidden:
            found[layer].append(fmean(right[layer]))
    print(f"| hidden in layer | {' | '.join(source.label for source in sources)} |")
    print("|---" * (1 + len(sources)) + "|")
    for layer, row in found.items():
        name = "none" if layer is None else layer
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in row)} |")


@dataclass(frozen=True)
class WithoutLayer(Budget):
    """Keeps everything, but in `layer` (None: none) only what stands before the demonstrations."""

    layer: int | None

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return (kv_heads,) counts by layer."""
        return [
            None if one is None else (one.always if one.layer == self.layer else one.valid).sum(1)
            for one in stage.evidence
        ]


if __name__ == "__main__":
    main()
