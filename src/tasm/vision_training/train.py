"""Training a vision memory: AdamW on the adapter alone, everything else of the model frozen."""

import csv
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from tasm.backbone.attention.function import ATTENTION
from tasm.backbone.attention.hooks import set_attention
from tasm.backbone.model import Backbone
from tasm.errors import InputError, WorkError
from tasm.files import naming_work, write_bytes
from tasm.vision_memory.attached import VisionMemory
from tasm.vision_memory.module import make_adapter
from tasm.vision_memory.saving import save_adapter
from tasm.vision_memory.settings import AdapterSettings, Kind
from tasm.vision_memory.towers import find_tower
from tasm.vision_training.checkpoints import CHECKPOINT, CURVES, load_checkpoint, save_checkpoint
from tasm.vision_training.losses import losses, pairs_of, targets_of
from tasm.vision_training.tasks import Task, draw

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TrainingSettings:
    """How a vision memory is trained; the rates are the paper's.

    A step takes `batch` runs, `at_once` in one pass; a run shows `shots` rows of one task and asks
    `asked` others. `warm_up` is a share of the steps, `alignment` the weight of Mema's second
    loss. `kind` "plain" trains the control without a memory.
    """

    steps: int = 1000
    batch: int = 16
    at_once: int = 4
    shots: int = 8
    asked: int = 4
    rate: float = 1e-4
    warm_up: float = 0.03
    alignment: float = 0.1
    kind: Kind = "mema"
    question_free: bool = False
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """The learning rate of a step: a linear warm-up, then a cosine to zero."""
        warm = max(1, round(self.warm_up * self.steps))
        if step < warm:
            return self.rate * (step + 1) / warm
        share = (step - warm) / max(1, self.steps - warm)
        return self.rate * 0.5 * (1 + math.cos(math.pi * share))


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    folder: Path
    parameters: int
    steps: int
    curve: tuple[Mapping[str, float], ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the document of `tasm vision-memory train --json`."""
        last = self.curve[-1] if self.curve else {}
        return {
            "adapter": str(self.folder),
            "parameters": self.parameters,
            "steps": self.steps,
            "loss": last.get("loss"),
            "alignment": last.get("alignment"),
            "accuracy": last.get("accuracy"),
            "seconds": self.seconds,
        }


def train(
    backbone: Backbone,
    tasks: Sequence[Task],
    out: Path,
    settings: TrainingSettings,
    *,
    resume: bool = False,
    checkpoint_every: int = 100,
    progress: Progress | None = None,
) -> Trained:
    """Train an adapter for a model's vision tower on tasks and write it to `out`.

    ```python
    train(model.backbone, read_tasks([Path("birds.jsonl")]), Path("birds-mema"), TrainingSettings())
    ```

    Which runs a step draws depends on the seed and the step alone, so that a training that was
    interrupted and resumed is the one that was not. Raises `InputError` for tasks without a
    picture, and what `load_checkpoint` raises.
    """
    if not any(row.pictures for task in tasks for row in (*task.shown, *task.asked)):
        raise InputError(
            "No row to train on has a picture, so a vision memory has nothing to see. Give rows "
            "with images."
        )
    started = time.perf_counter()
    torch.manual_seed(settings.seed)
    tower = find_tower(backbone.core)
    adapter = make_adapter(
        AdapterSettings(
            width=tower.width,
            text_width=tower.text_width,
            has_class_token=tower.has_class_token,
            kind=settings.kind,
            question_free=settings.question_free,
        )
    )
    vision = VisionMemory(backbone, adapter)
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=settings.rate, weight_decay=0.0)
    known = {
        **asdict(settings),
        "model": backbone.identity.digest,
        "tasks": [task.digest for task in tasks],
    }
    done: int = 0
    curve: list[dict[str, float]] = []
    if resume:
        done, curve = load_checkpoint(out, adapter, optimiser, known)
    vision.attach()
    try:
        with _frozen(backbone):
            for step in range(done, settings.steps):
                if progress is not None:
                    progress("Training", step, settings.steps)
                curve.append(_step(vision, tasks, settings, optimiser, step))
                if (step + 1) % checkpoint_every == 0 and step + 1 < settings.steps:
                    save_checkpoint(
                        out, adapter, optimiser, settings=known, steps=step + 1, curve=curve
                    )
        about = {**asdict(settings), "tasks": [task.name for task in tasks]}
        save_adapter(out, vision, about)
    finally:
        vision.remove()
    with naming_work(out):
        write_bytes(out / CURVES, _as_csv(curve).encode())
        (out / CHECKPOINT).unlink(missing_ok=True)
    seconds = time.perf_counter() - started
    return Trained(out, adapter.parameter_count, settings.steps, tuple(curve), seconds)


def _step(
    vision: VisionMemory,
    tasks: Sequence[Task],
    settings: TrainingSettings,
    optimiser: torch.optim.AdamW,
    step: int,
) -> dict[str, float]:
    """One step of the optimiser, its runs drawn by its number; returns its figures."""
    random = Random(f"{settings.seed} {step}")
    runs = [
        draw(random, random.choice(tasks), settings.shots, settings.asked)
        for _ in range(settings.batch)
    ]
    total = {"loss": 0.0, "alignment": 0.0, "right": 0.0, "tokens": 0.0, "pairs": 0.0, "asked": 0.0}
    optimiser.zero_grad()
    laid_out = [(vision.backbone.transcript(run.rows), run.shown) for run in runs]
    tokens = sum(len(targets_of(*one)) for one in laid_out)
    pairs = sum(len(pairs_of(transcript)) for transcript, _ in laid_out)
    for first in range(0, len(runs), settings.at_once):
        share = laid_out[first : first + settings.at_once]
        found = losses(vision, [one for one, _ in share], [shown for _, shown in share])
        # Over the whole step, so that how many runs a pass takes changes nothing.
        loss = found.answers / max(1, tokens)
        loss = loss + settings.alignment * found.alignment / max(1, pairs)
        if not bool(torch.isfinite(loss)):
            raise WorkError(
                f"The loss of step {step + 1} is no finite number. A lower --rate, or --dtype "
                "float32, may help; the last checkpoint is as it was."
            )
        if loss.requires_grad:
            loss.backward()
        total["loss"] += float(found.answers.detach())
        total["alignment"] += float(found.alignment.detach())
        for name in ("right", "tokens", "pairs", "asked"):
            total[name] += getattr(found, name)
    rate = settings.rate_at(step)
    for group in optimiser.param_groups:
        group["lr"] = rate
    torch.nn.utils.clip_grad_norm_(vision.adapter.parameters(), 1.0)
    optimiser.step()
    return {
        "step": step + 1,
        "loss": total["loss"] / max(1.0, total["tokens"]),
        "alignment": total["alignment"] / max(1.0, total["pairs"]),
        "accuracy": total["right"] / max(1.0, total["asked"]),
        "rate": rate,
    }


@contextmanager
def _frozen(backbone: Backbone) -> Iterator[None]:
    """No gradient for the model's own weights, and attention that gradients flow through."""
    asked = [one for one in backbone.core.parameters() if one.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    set_attention(backbone.core, "sdpa")
    try:
        yield
    finally:
        set_attention(backbone.core, ATTENTION)
        for parameter in asked:
            parameter.requires_grad_(True)


def _as_csv(curve: Sequence[Mapping[str, float]]) -> str:
    text = io.StringIO()
    names = ("step", "loss", "alignment", "accuracy", "rate")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(curve)
    return text.getvalue()
