"""What streaming builds take as more demonstrations come, and what packing positions closer costs.

    python benchmarks/streaming.py memory --counts 1000,10000
    python benchmarks/streaming.py positions --trained 2500 --seeds 2

`memory` builds from a generator with `random:qwen2_vl-tiny`, each count in a process of its own,
and prints the largest anonymous memory beyond what was there before. `positions` builds with the
bundled model as if it had been trained for so many positions only, and asks with positions packed
and not.
"""

import argparse
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

CORE, BANK, CHUNK = "128", "256", 512


def anonymous_bytes() -> int:
    """Anonymous resident memory of this process (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("no RssAnon here")


class Peak:
    """The largest anonymous memory while it is entered."""

    def __enter__(self) -> "Peak":
        self.before = self.largest = anonymous_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.largest = max(self.largest, anonymous_bytes())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def drawn(count: int) -> Iterator[dict[str, Any]]:
    """Rows with a picture of their own each."""
    from PIL import Image

    for number in range(count):
        image = Image.effect_noise((56, 56), 20 + number % 200).convert("RGB")
        image.putpixel((0, 0), (number % 256, number // 256 % 256, number // 65536))
        yield {
            "image": image,
            "question": f"What is picture {number}?",
            "answer": f"number {number}",
        }


def build_one(count: int, recipe: str) -> None:
    """Build once from a generator and print what it took."""
    import tempfile

    import tasm

    model = tasm.load_model("random:qwen2_vl-tiny")
    given: dict[str, Any] = {
        "mode": "streaming", "recipe": recipe, "core": CORE, "bank": BANK,
        "chunk_tokens": CHUNK, "notice": None,
    }  # fmt: skip
    tasm.build(model, drawn(60), **given)  # what is loaded and allocated once
    times: list[float] = []

    def progress(stage: str, done: int, total: int) -> None:
        times.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder, Peak() as peak:
        memory = tasm.build(
            model, drawn(count), progress=progress, checkpoint=f"{folder}/u", **given
        )
        built = peak.largest - peak.before
        memory.save(f"{folder}/m.tasm")
        manifest = Path(f"{folder}/m.tasm/memory.json").stat().st_size
    half = len(times) // 2
    first, second = times[half] - times[0], times[-1] - times[half]
    print(
        f"| {count:,} | {built / 1e6:.1f} MB | {(peak.largest - peak.before) / 1e6:.1f} MB | "
        f"{memory.tokens.nbytes / count:,.0f} | {manifest / count:,.0f} | "
        f"{1000 * (times[-1] - times[0]) / count:.1f} | {second / first:.2f} |",
        flush=True,
    )


def memory(given: Any) -> None:
    """Print a table, a process a count."""
    titles = "demonstrations", "peak", "saving too", "table bytes each", "manifest bytes each"
    titles += ("CPU ms each", "second half / first")
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
    for count in given.counts.split(","):
        subprocess.run(
            [sys.executable, __file__, "one", "--count", count, "--recipe", given.recipe],
            check=True,
        )


def positions(given: Any) -> None:
    """Print accuracy by length, packed and not."""
    import tasm
    from tasm.answer import ask_all
    from tasm.backbone.given import as_backbone
    from tasm.bench.sources import parse_suites
    from tasm.compress.streams import streaming
    from tasm.demonstrations import is_correct

    backbone = as_backbone(tasm.load_model("reference"))
    whole = backbone.geometry
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    lengths: dict[str, list[float]] = defaultdict(list)
    for source in parse_suites(given.suites, queries=given.queries, split=given.split):
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            with source.open(seed) as episode:
                for filled in ("not packed", *given.filled.split(",")):
                    limit = None if filled == "not packed" else given.trained
                    backbone.geometry = replace(whole, max_positions=limit)
                    streaming.FILLED = 0.5 if limit is None else float(filled)
                    made = tasm.build(
                        backbone, iter(episode.demonstrations), recipe=given.recipe,
                        core=given.core, mode="streaming", notice=None,
                        chunk_tokens=given.chunk_tokens,
                    )  # fmt: skip
                    if limit is None:
                        lengths[source.label].append(made.next_position)
                    answers = ask_all(backbone, made, episode.queries, batch_size=40)
                    share = fmean(
                        float(is_correct(answer.text, query.answers))
                        for answer, query in zip(answers, episode.queries, strict=True)
                    )
                    found[source.label, filled].append(share)
                    print(source.label, seed, filled, made.next_position, share, file=sys.stderr)
    for (label, filled), shares in found.items():
        times = fmean(lengths[label]) / given.trained
        print(f"| {label} | {times:.1f} × | {filled} | {fmean(shares):.3f} |", flush=True)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    ways = parser.add_subparsers(dest="way", required=True)
    one = ways.add_parser("memory")
    one.add_argument("--counts", default="1000,10000")
    one.add_argument("--recipe", default="tasm")
    one = ways.add_parser("one")
    one.add_argument("--count", type=int, required=True)
    one.add_argument("--recipe", default="tasm")
    one = ways.add_parser("positions")
    one.add_argument("--trained", type=int, default=2500)
    one.add_argument("--suites", default="bind@100,bind@200,bind@400,bind@800")
    one.add_argument("--recipe", default="compact")
    one.add_argument("--core", default="512")
    one.add_argument("--chunk-tokens", type=int)
    one.add_argument("--filled", default="0.5")
    one.add_argument("--split", default="held-out")
    one.add_argument("--first-seed", type=int, default=0)
    one.add_argument("--seeds", type=int, default=2)
    one.add_argument("--queries", type=int, default=40)
    given = parser.parse_args()
    if given.way == "one":
        build_one(given.count, given.recipe)
    else:
        {"memory": memory, "positions": positions}[given.way](given)


if __name__ == "__main__":
    main()
