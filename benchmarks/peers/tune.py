"""Find the peers' rate and epochs, on training classes and seeds that no comparison uses.

```console
$ python benchmarks/peers/tune.py --peers lora --rates 3e-4,1e-3 --epochs 5,10,20 --out out/tune
```
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from adapters import Peer, lora, tasm_peer, untrained_prefix
from asking import answered
from fitting import LOSSES, Fit, train

from tasm.answer import full_context
from tasm.answer.ask import default_new_tokens
from tasm.backbone.loading import load_backbone
from tasm.bench.sources import Episode, parse_suites


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every setting and print the means over suites and seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="reference")
    parser.add_argument("--suites", default="bind,rule,digits")
    parser.add_argument("--first-seed", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--peers", default="lora,prefix")
    parser.add_argument("--rates", default="3e-4,1e-3,3e-3,1e-2")
    parser.add_argument("--epochs", default="5,10,20,40")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--losses", default="answer", help=f"of {', '.join(LOSSES)}")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone(options.model)
    stops = sorted(int(text) for text in options.epochs.split(","))
    found: dict[tuple[str, str, float, int], list[float]] = {}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for source in parse_suites(options.suites, queries=options.queries, split="train"):
        for seed in seeds:
            with source.open(seed) as episode:
                for name in options.peers.split(","):
                    for loss in options.losses.split(","):
                        for rate in (float(text) for text in options.rates.split(",")):
                            fit = Fit(rate, stops[-1], options.batch, loss)
                            for row in _measured(name, backbone, episode, fit, stops):
                                place = {"suite": source.label, "seed": seed}
                                with (options.out / "tune.jsonl").open("a") as file:
                                    file.write(json.dumps(place | row) + "\n")
                                key = (name, loss, rate, row["epochs"])
                                found.setdefault(key, []).append(row["accuracy"])
    for key, values in found.items():
        print(*key, f"{fmean(values):.3f}")


def _measured(
    name: str, backbone: Any, episode: Episode, fit: Fit, stops: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Train once and ask at each of the epochs that are to be compared."""
    shown = episode.demonstrations
    new_tokens = default_new_tokens(full_context(backbone, shown))
    with ExitStack() as stack:
        if name == "lora":
            trained, peer = stack.enter_context(lora(backbone)), Peer("lora")
        else:
            peer = untrained_prefix(backbone, shown, tasm_peer(backbone, shown).stored_bytes)
            trained = [tensor for pair in peer.prefix for tensor in pair]
        started, spent = time.perf_counter(), 0.0
        for epoch in train(backbone, shown, trained, fit, peer.prefix, peer.next_position):
            if epoch not in stops:
                continue
            spent += time.perf_counter() - started
            correct = answered(backbone, peer, episode.queries, new_tokens)
            row = {"peer": name, "loss": fit.loss, "rate": fit.rate, "batch": fit.batch}
            yield row | {"epochs": epoch, "seconds": spent, "accuracy": fmean(correct)}
            started = time.perf_counter()


if __name__ == "__main__":
    main()
