"""Does a memory across the tower's layers help where detail is fine? The bundled model, judged.

```console
$ python benchmarks/vision_memory.py --out out/detail
```

The bundled model is at its ceiling on the suites as they are drawn, so every thing in a picture is
drawn smaller, training and test alike: what stands in a cell of 16 pixels is scaled to a share of
its side. Mema, Mema without the question, and a control of the same size that also sees the
question are trained in the same way on training classes, and judged on held-out ones, with all
demonstrations attended and with what TASM keeps of them. Tasks, trainings and judgements that are
there are not made again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

import tasm
from tasm.bench.cells import Cell
from tasm.bench.intervals import interval, paired_interval
from tasm.suites.suites import write_suite
from tasm.vision_memory.saving import CONFIG
from tasm.vision_training.checkpoints import CHECKPOINT
from tasm.vision_training.evaluate import right_answers
from tasm.vision_training.tasks import DEMONSTRATIONS, read_tasks
from tasm.vision_training.train import TrainingSettings, train

SUITES = {"read": 8, "needle": 12, "late": 12, "locate": 8}
"""Suites whose answers hang on single glyphs, and how many demonstrations a training task has."""

SHARE = 0.6
CELL, FRAME = 16, 2
TRAINED, FIRST = 24, 2000
STEPS = 600


def smaller(file: Path, share: float) -> None:
    """Draw what stands in each cell of a picture at a share of its side, about its middle."""
    pixels = np.asarray(Image.open(file).convert("RGB"), dtype=np.float32)
    inner = pixels[FRAME:-FRAME, FRAME:-FRAME]
    ground = np.median(inner.reshape(-1, 3), axis=0)
    whole = np.tile(ground, (*pixels.shape[:2], 1))
    whole[FRAME:-FRAME, FRAME:-FRAME] = inner
    result = np.tile(ground, (*pixels.shape[:2], 1))
    side, first = round(CELL * share), (CELL - round(CELL * share)) // 2
    for top in range(0, pixels.shape[0], CELL):
        for left in range(0, pixels.shape[1], CELL):
            cell = Image.fromarray(whole[top : top + CELL, left : left + CELL].astype(np.uint8))
            small = np.asarray(cell.resize((side, side), Image.Resampling.BOX))
            result[top + first : top + first + side, left + first : left + first + side] = small
    drawn = pixels.copy()
    drawn[FRAME:-FRAME, FRAME:-FRAME] = result[FRAME:-FRAME, FRAME:-FRAME]
    Image.fromarray(drawn.astype(np.uint8)).save(file)


def draw_tasks(out: Path, seeds: range, split: str, sizes: dict[str, int] | None) -> Path:
    """Draw the suites' tasks into a folder; `sizes` are the numbers of demonstrations, None for
    each suite's own."""
    for name in SUITES:
        for seed in seeds:
            folder = out / f"{name}-{seed}"
            if (folder / DEMONSTRATIONS).is_file():
                continue
            size = None if sizes is None else sizes[name]
            write_suite(name, folder, seed=seed, split=split, demonstrations=size)
            for file in sorted((folder / "images").glob("*.png")):
                smaller(file, SHARE)
    return out


def trained(tasks: Path, out: Path, kind: str, steps: int, batch: int) -> Path:
    """Train an adapter of a kind, or go on with one."""
    if (out / CONFIG).is_file():
        return out
    settings = TrainingSettings(
        steps=steps,
        batch=batch,
        at_once=batch,
        shots=16,
        asked=8,
        rate=2e-3,
        kind="plain" if kind == "plain" else "mema",
        question_free=kind == QUESTION_FREE,
    )
    train(
        tasm.load_model("reference").backbone,
        read_tasks([tasks]),
        out,
        settings,
        resume=(out / CHECKPOINT).is_file(),
        checkpoint_every=25,
    )
    return out


CELLS = (Cell("full", None, None), Cell("tasm", "20%", "40%"))
FROZEN = "frozen"
QUESTION_FREE = "question-free"


def judge(tasks: Path, adapters: dict[str, Path | None], rows: Path) -> None:
    """Ask every task without and with each adapter, and append what is right to `rows`."""
    lines = rows.read_text().splitlines() if rows.is_file() else []
    known = {(row["kind"], row["task"], row["recipe"]) for row in map(json.loads, lines)}
    found = sorted(read_tasks([tasks]), key=lambda task: int(task.name.rpartition("-")[2]))
    for cell in CELLS:
        for kind, place in adapters.items():
            backbone = tasm.load_model("reference", vision_memory=place).backbone
            for task in found:
                if (kind, task.name, cell.recipe) in known:
                    continue
                right = right_answers(backbone, task, cell, 40)
                row = {"kind": kind, "task": task.name, "recipe": cell.recipe, "right": right}
                with rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def table(rows: Path) -> str:
    """Return accuracies by suite and recipe, and their differences from the frozen model's."""
    right: dict[tuple[str, str], dict[str, list[list[float]]]] = {}
    for row in map(json.loads, rows.read_text().splitlines()):
        suite = Path(row["task"]).name.rpartition("-")[0]
        for name in (suite, "all"):
            of_kind = right.setdefault((name, row["recipe"]), {})
            of_kind.setdefault(row["kind"], []).append(row["right"])
    lines = ["| suite | recipe | model | accuracy | against frozen |", "|---|---|---|---|---|"]
    for (name, recipe), kinds in right.items():
        for kind, groups in kinds.items():
            mean = interval(groups)
            against = "–"
            if kind != FROZEN and len(groups) == len(kinds.get(FROZEN, [])):
                gain = paired_interval(groups, kinds[FROZEN])
                against = f"{gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
            said = f"{mean.mean:.3f} ({mean.low:.3f}–{mean.high:.3f})"
            lines.append(f"| {name} | {recipe} | {kind} | {said} | {against} |")
    return "\n".join(lines)


def main() -> None:
    """Draw, train, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/detail"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, default=2, help="runs a step")
    parser.add_argument("--seeds", type=int, default=6, help="test tasks a suite")
    options = parser.parse_args()
    out = options.out
    tasks = draw_tasks(out / "train", range(FIRST, FIRST + TRAINED), "train", SUITES)
    test = draw_tasks(out / "test", range(options.seeds), "held-out", None)
    adapters: dict[str, Path | None] = {FROZEN: None}
    for kind in ("mema", "plain", QUESTION_FREE):
        adapters[kind] = trained(tasks, out / kind, kind, options.steps, options.batch)
    judge(test, adapters, out / "rows.jsonl")
    print(table(out / "rows.jsonl"))


if __name__ == "__main__":
    main()
