"""Fit LoRA, a trained prefix and a task memory to the same demonstrations and compare them.

```console
$ python benchmarks/peers/run.py --model reference --suites bind,late --seeds 3 --out out/peers
```
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from adapters import LORA_FIT, PEERS, PREFIX_FIT, adapted
from asking import answered, answered_elsewhere, asked
from fitting import LOSSES, Fit
from table import table

from tasm.answer import full_context
from tasm.answer.ask import default_new_tokens
from tasm.backbone.loading import load_backbone
from tasm.bench.sources import Episode, SuiteSource, parse_suites

PLACE = ("suite", "other", "seed", "peer", "model", "settings")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison and write `rows.jsonl` and `peers.md`."""
    options = _options(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone(options.model)
    peers, fits = options.peers.split(","), _fits(options)
    path = options.out / "rows.jsonl"
    done = _read(path)
    wanted: list[str] = []
    sources = parse_suites(options.suites, queries=options.queries, split=options.split)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for number, source in enumerate(sources):
            other = replace(sources[(number + 1) % len(sources)], queries=options.elsewhere_queries)
            places = [_place(options, backbone, source, other, seed, peer, fits) for peer in peers]
            wanted += map(_key, places)
            missing = [place for place in places if _key(place) not in done]
            if missing:
                with source.open(seed) as episode, other.open(seed) as elsewhere:
                    for row in _measured(backbone, episode, elsewhere, missing, fits):
                        done[_key(row)] = row
                        with path.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(row) + "\n")
            text = table([done[key] for key in wanted], peers)
            (options.out / "peers.md").write_text(text, encoding="utf-8")
    print((options.out / "peers.md").read_text(encoding="utf-8"))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="reference")
    parser.add_argument("--suites", default="bind,late,rule,digits")
    parser.add_argument("--split", default="held-out")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--elsewhere-queries", type=int, default=20)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--epochs", type=int, help="instead of the peers' own")
    parser.add_argument("--batch", type=int, help="demonstrations a step")
    parser.add_argument("--loss", choices=LOSSES, help="instead of the peers' own")
    parser.add_argument("--lora-rate", type=float)
    parser.add_argument("--prefix-rate", type=float)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(arguments)


def _fits(options: argparse.Namespace) -> dict[str, Fit]:
    """The peers' own settings with what the command line changes."""
    named = {"epochs": options.epochs, "batch": options.batch, "loss": options.loss}
    fits = {}
    for peer, fit, rate in (
        ("lora", LORA_FIT, options.lora_rate),
        ("prefix", PREFIX_FIT, options.prefix_rate),
    ):
        changed = {k: v for k, v in {**named, "rate": rate}.items() if v is not None}
        fits[peer] = replace(fit, **changed)
    return fits


def _place(
    options: argparse.Namespace,
    backbone: Any,
    source: SuiteSource,
    other: SuiteSource,
    seed: int,
    peer: str,
    fits: dict[str, Fit],
) -> dict[str, Any]:
    """Everything that decides what a row says: other weights or settings give other rows."""
    settings: dict[str, Any] = {
        "queries": source.queries,
        "elsewhere_queries": other.queries,
        "split": options.split,
    }
    kind = peer.partition("-")[0]
    if kind in fits:
        settings |= asdict(fits[kind])
    return {
        "suite": source.label,
        "other": other.label,
        "seed": seed,
        "peer": peer,
        "model": backbone.identity.digest[:16],
        "settings": settings,
    }


def _key(row: dict[str, Any]) -> str:
    return json.dumps([row.get(name) for name in PLACE], sort_keys=True)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of earlier runs; a line that was not finished is cut off."""
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text, encoding="utf-8")
    return {_key(row): row for row in map(json.loads, text.splitlines())}


def _measured(
    backbone: Any,
    episode: Episode,
    elsewhere: Episode,
    places: Sequence[dict[str, Any]],
    fits: dict[str, Fit],
) -> Iterator[dict[str, Any]]:
    new_tokens = default_new_tokens(full_context(backbone, episode.demonstrations))
    there = full_context(backbone, elsewhere.demonstrations)
    untouched = asked(backbone, there, elsewhere.queries)
    for place in places:
        started = time.perf_counter()
        name = place["peer"]
        with adapted(name, backbone, episode.demonstrations, fits) as peer:
            correct = answered(backbone, peer, episode.queries, new_tokens)
            kept = answered_elsewhere(backbone, peer, elsewhere, default_new_tokens(there))
        spent = time.perf_counter() - started
        print(
            f"{place['suite']} seed {place['seed']} {name}: {fmean(correct):.3f} ({spent:.0f} s)",
            file=sys.stderr,
        )
        yield place | {
            "correct": correct,
            "seconds": peer.seconds,
            "stored_bytes": peer.stored_bytes,
            "elsewhere_untouched": untouched,
            "elsewhere": kept,
        }


if __name__ == "__main__":
    main()
