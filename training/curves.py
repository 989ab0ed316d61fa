"""The training curves as a picture."""

from __future__ import annotations

import csv
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any


def plot(file: Path, out: Path) -> None:
    """Held-out accuracy of the decoder's stages over minutes, and the tower's first."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("Agg")
    figure, (left, right) = import_module("matplotlib.pyplot").subplots(
        1, 2, figsize=(11, 4), width_ratios=(1, 2.2)
    )
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    tower: dict[str, list[tuple[float, float]]] = defaultdict(list)
    begin, last, stage, marks = 0.0, 0.0, "", []
    with file.open(newline="") as rows:
        for row in csv.DictReader(rows):
            minutes, value = float(row["seconds"]) / 60, float(row["value"])
            if row["stage"] == "tower":
                tower[row["name"]].append((minutes, value))
                continue
            if row["stage"] != stage:
                stage, begin = row["stage"], last
                marks.append((begin, stage))
            last = begin + minutes
            if row["name"].startswith("held_"):
                lines[row["name"][5:]].append((last, value))
    for name in ("big", "small", "one_shot"):
        left.plot(*zip(*tower[name], strict=True), label=name.replace("_", " "))
    for name, points in lines.items():
        right.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
    for at, name in marks:
        right.axvline(at, color="0.8", linewidth=0.8)
        right.text(at + 0.3, 1.02, name, fontsize=8)
    left.set_title("tower: classes; one-shot on unseen", fontsize=9)
    right.set_title("held-out classes, first answer token", fontsize=9, pad=14)
    for axis in (left, right):
        axis.set_xlabel("minutes")
        axis.set_ylim(0, 1.01)
    left.legend(fontsize=7, loc="lower right")
    right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def plot_shots(rows: list[tuple[int, dict[str, Any]]], out: Path) -> None:
    """Accuracy against the number of demonstrations, with intervals."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("Agg")
    figure, axis = import_module("matplotlib.pyplot").subplots(figsize=(5, 3.4))
    found = [row["accuracy"] for _, row in rows]
    low = [row["accuracy"] - row["ci95"][0] for _, row in rows]
    high = [row["ci95"][1] - row["accuracy"] for _, row in rows]
    axis.errorbar([n for n, _ in rows], found, yerr=(low, high), marker="o", capsize=3)
    axis.axhline(1 / 8, color="0.6", linestyle=":")
    axis.set_xlabel("demonstrations (8 classes)")
    axis.set_ylabel("accuracy on unseen classes")
    axis.set_ylim(0, 1.01)
    figure.tight_layout()
    figure.savefig(out, dpi=110)
