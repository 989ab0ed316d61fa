"""What the stages share: optimisers, checkpoints, curves."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn


class Optimiser:
    """An optimiser whose learning rates follow one pace between 0 and 1."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner
        self.rates = [group["lr"] for group in inner.param_groups]

    def pace(self, factor: float) -> None:
        for group, rate in zip(self.inner.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def zero(self) -> None:
        self.inner.zero_grad(set_to_none=True)

    def step(self) -> None:
        self.inner.step()


def optimisers(
    named: Iterable[tuple[str, nn.Parameter]], others: Iterable[nn.Parameter] = (), lr: float = 2e-3
) -> list[Optimiser]:
    """Muon for the blocks' matrices, AdamW for everything else."""
    matrices: list[nn.Parameter] = []
    rest = list(others)
    for name, parameter in named:
        inside = "blocks." in name or "layers." in name
        (matrices if inside and parameter.ndim == 2 else rest).append(parameter)
    muon = torch.optim.Muon(
        matrices, lr=lr, weight_decay=0.02, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    adam = torch.optim.AdamW(rest, lr=lr / 2, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    return [Optimiser(muon), Optimiser(adam)]


def save(
    file: Path, modules: dict[str, nn.Module], opts: list[Optimiser], seconds: float, steps: int
) -> None:
    """A checkpoint, written aside and renamed."""
    state = {
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimisers": [opt.inner.state_dict() for opt in opts],
        "spent": (seconds, steps),
    }
    aside = file.with_suffix(".new")
    torch.save(state, aside)
    aside.replace(file)


def restore(file: Path, modules: dict[str, nn.Module], opts: list[Optimiser]) -> tuple[float, int]:
    """Seconds and steps already spent; nothing where there is no checkpoint."""
    if not file.exists():
        return 0.0, 0
    state: dict[str, Any] = torch.load(file, weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    for opt, old in zip(opts, state["optimisers"], strict=True):
        opt.inner.load_state_dict(old)
    seconds, steps = state["spent"]
    return float(seconds), int(steps)


class Log:
    """Running means, printed and appended to curves.csv: stage, step, seconds, name, value."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.file, self.stage = folder / "curves.csv", stage
        self.sums: dict[str, list[float]] = {}

    def mean(self, **values: float) -> None:
        for name, value in values.items():
            if value == value:
                self.sums.setdefault(name, []).append(value)

    def write(self, step: int, seconds: float, **more: float) -> None:
        row = {name: sum(v) / len(v) for name, v in self.sums.items() if v} | more
        self.sums.clear()
        new = not self.file.exists()
        with self.file.open("a", newline="") as out:
            sheet = csv.writer(out)
            if new:
                sheet.writerow(["stage", "step", "seconds", "name", "value"])
            for name, value in row.items():
                sheet.writerow([self.stage, step, round(seconds), name, round(value, 4)])
        shown = " ".join(f"{name} {value:.3f}" for name, value in row.items())
        print(f"{self.stage} {step} {seconds:.0f}s {shown}", flush=True)
