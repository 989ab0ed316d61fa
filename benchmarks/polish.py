"""What a polish gains: the same memory before and after, the full context, a trained prefix.

    python benchmarks/polish.py --suites needle,late,locate,mixed --seeds 3 --core 5% --steps 200
    python benchmarks/polish.py --model FOLDER --suites past --no-prefix

The prefix (benchmarks/peers) is trained on as many bytes as the memory takes. Seconds are those of
the processor, as other work may share the machine: take one thread (OMP_NUM_THREADS=1). Prints a
table and writes one JSON line a cell.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from adapters import prefix_peer
from asking import answered, asked
from quality import episodes, journal

import tasm
from tasm.answer import full_context
from tasm.answer.ask import default_new_tokens
from tasm.backbone.given import as_backbone


def timed(work: Callable[..., Any], *given: Any, **named: Any) -> tuple[Any, float]:
    """Return what some work gives, and the processor's seconds that it took."""
    started = time.process_time()
    return work(*given, **named), time.process_time() - started


def rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one row an episode."""
    backbone = as_backbone(tasm.load_model(given.model))
    for task, seed, episode in episodes(given):
        shown, queries = episode.demonstrations, episode.queries
        full_context(backbone, shown)
        full, prefill = timed(full_context, backbone, shown)
        chosen: dict[str, Any] = {"recipe": given.recipe, "core": given.core, "notice": None}
        plain, built = timed(tasm.build, backbone, shown, **chosen)
        polished, both = timed(tasm.build, backbone, shown, polish=given.steps, **chosen)
        row = {
            "task": task,
            "seed": seed,
            "full": fmean(asked(backbone, full, queries)),
            "before": fmean(asked(backbone, plain, queries)),
            "after": fmean(asked(backbone, polished, queries)),
            "prefills": (both - built) / prefill,
            "polish_seconds": both - built,
            "memory_seconds": both,
            "bytes": polished.core_bytes / polished.full_bytes,
            "nats": polished.recipe["notes"]["polish"],
        }
        if not given.no_prefix:
            size = polished.core_bytes
            peer, seconds = timed(prefix_peer, backbone, shown, size)
            right = answered(backbone, peer, queries, default_new_tokens(full))
            row |= {"prefix": fmean(right), "prefix_seconds": seconds}
        yield row


def table(found: list[dict[str, Any]]) -> str:
    """Return means by task, and over all."""
    names = ["full", "before", "after", "prefix", "prefills", "polish_seconds", "prefix_seconds"]
    lines = ["| task | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    tasks = list(dict.fromkeys(row["task"] for row in found))
    for label, some in [
        *((task, [row for row in found if row["task"] == task]) for task in tasks),
        ("mean", found),
    ]:
        shown = [fmean(row.get(name, float("nan")) for row in some) for name in names]
        lines.append(f"| {label} | " + " | ".join(f"{value:.3f}" for value in shown) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="reference")
    parser.add_argument("--suites", default="needle,late,locate,mixed")
    parser.add_argument("--files", help="folders NAME-SEED, instead of suites")
    parser.add_argument("--split", default="held-out")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--recipe", default="compact")
    parser.add_argument("--core", default="5%")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--no-prefix", action="store_true")
    parser.add_argument("--out", help="a file for one JSON line a cell")
    given = parser.parse_args()
    found = []
    with journal(given.out) as file:
        for row in rows(given):
            found.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
            if file is not None:
                file.write(json.dumps(row) + "\n")
                file.flush()
    print(table(found))


if __name__ == "__main__":
    main()
