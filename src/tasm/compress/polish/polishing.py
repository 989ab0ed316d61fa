"""Gradient steps towards what the full context says, and when to stop.

Questions of some kinds are made of four fifths of the demonstrations, and what comes out is judged
by questions of other kinds, of the last fifth: what is not surely better there is not kept, because
what is asked will be of another kind, too. Knows a model and what a build kept; nothing is learned
but that.
"""

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Role, Transcript
from tasm.compress.polish.pupil import Pupil
from tasm.compress.polish.questions import Kind, asked_anew, pictures_of
from tasm.compress.polish.teaching import Taught, Teacher
from tasm.compress.polish.telling import telling_kinds
from tasm.compress.prefill import Compressed, Progress
from tasm.compress.trial import is_surely_better
from tasm.demonstrations import Demonstration, Query
from tasm.errors import InputError, ModelError

RATES = {"keys": 0.008, "values": 0.03, "bias": 0.01}
"""Rates of Adam, in root mean squares of a layer's own numbers; of a bias in nats."""

GAIN = 0.02
"""Nats over left-out questions that a memory must be better by."""

SURE = 2.0
"""Standard errors over batches of left-out questions that a memory must be better by."""

LEFT_OUT = 5
"""Every so many demonstrations one is left out to judge by."""

_TOGETHER = 4
_LEARNED = 240
_JUDGING = 28
_LOOKS = 5
_LONGEST_ANSWER = 8
_TIMES_TOKENS = 6
_WARMING = 10


@dataclass(frozen=True, eq=False)
class Lessons:
    """Batches to learn of, and those to judge by."""

    learned: Sequence[Taught]
    judged: Sequence[Taught]


def check_polishing(backbone: Backbone, demonstrations: Sequence[Demonstration]) -> None:
    """Raise InputError or ModelError where a polish cannot work."""
    if len(demonstrations) < 2:
        raise InputError(
            "A polish needs at least 2 demonstrations, one of them to judge by, and there is 1. "
            "Leave the polish out."
        )
    if "full" not in backbone.geometry.layer_kinds:
        raise ModelError(
            f"{backbone.name} has no layer with full attention, so that nothing it keeps could be "
            "polished. Leave the polish out."
        )
    if getattr(backbone.core, "is_quantized", False):
        raise ModelError(
            f"{backbone.name} has quantised weights, through which a polish cannot be sure of its "
            "gradients. Build with the weights in 16 or 32 bits, or leave the polish out."
        )
    devices = sorted({str(parameter.device) for parameter in backbone.core.parameters()})
    if len(devices) > 1:
        raise ModelError(
            f"{backbone.name} lies on {' and '.join(devices)}, and a polish takes a model on one "
            "device. Load it onto one, or leave the polish out."
        )


def polished(
    backbone: Backbone,
    full: MemoryCache,
    transcript: Transcript,
    demonstrations: Sequence[Demonstration],
    kept: Compressed,
    *,
    steps: int,
    seed: int,
    progress: Progress,
) -> Compressed:
    """Return what was kept after at most `steps` gradient steps towards what the `full` context
    says; the model is not changed.

    `notes["polish"]` says which step was kept (0 for none) and the divergences from the full
    context over left-out questions, before and after, in nats.
    """
    started = time.perf_counter()
    progress("polish", 0, steps)
    # Who builds in inference mode has no gradients there.
    with torch.inference_mode(False), torch.no_grad(), _frozen(backbone):
        pupil = Pupil(backbone, kept.core, kept.states, kept.next_position, len(transcript))
        lessons = prepared(backbone, full, transcript, demonstrations, seed)
        learned, notes = _learn(pupil, lessons, steps, random.Random(seed), progress)
    seconds = {**kept.seconds, "polish": time.perf_counter() - started}
    return replace(
        kept,
        core=kept.core if learned is None else pupil.kept(learned),
        notes={**kept.notes, "polish": notes},
        seconds=seconds,
    )


def prepared(
    backbone: Backbone,
    full: MemoryCache,
    transcript: Transcript,
    demonstrations: Sequence[Demonstration],
    seed: int,
) -> Lessons:
    """Return questions that the `full` context has answered, to learn of and to judge by."""
    rng = random.Random(seed)
    answers = transcript.demonstration[transcript.roles == int(Role.ANSWER)]
    longest = int(answers.long().bincount().max()) if len(answers) else 1
    tokens = min(longest + 1, _LONGEST_ANSWER)
    pads = all(state is None for state in full.states)
    teacher = Teacher(backbone, full.fork, transcript.layout, tokens, pads)
    count = len(demonstrations)
    left_out = [one for number, one in enumerate(demonstrations) if _is_left_out(number, count)]
    others = [one for number, one in enumerate(demonstrations) if not _is_left_out(number, count)]
    kinds = telling_kinds(teacher, others, rng)
    half = (len(kinds) + 1) // 2
    room = _TIMES_TOKENS * len(transcript)
    return Lessons(
        _taught(teacher, _questions(kinds[:half], others, _LEARNED, rng), room, rng),
        _taught(teacher, _questions(kinds[half:] or kinds, left_out, _JUDGING, rng), room, rng),
    )


def _questions(
    kinds: Sequence[Kind], demonstrations: Sequence[Demonstration], most: int, rng: random.Random
) -> list[Query]:
    """Demonstrations' own questions, and of each in turn some of every kind, about `most`."""
    pictures = pictures_of(demonstrations)
    pairs = [(kind, one) for kind in kinds for one in demonstrations]
    rng.shuffle(pairs)
    times = max(1, most // len(pairs))
    drawn = (times * pairs)[:most]
    own = [
        asked_anew(one)
        for one in rng.sample(list(demonstrations), min(len(demonstrations), most // 4))
    ]
    return own + [kind.of(one, pictures, rng) for kind, one in drawn]


def _is_left_out(number: int, count: int) -> bool:
    return number % LEFT_OUT == LEFT_OUT - 1 or (count < LEFT_OUT and number == count - 1)


def _taught(
    teacher: Teacher, queries: Sequence[Query], room: int, rng: random.Random
) -> list[Taught]:
    """Batches of questions with their answers, as many as `room` tokens hold; one at least."""
    batches = _batches(queries, _TOGETHER if teacher.pads else 1)
    rng.shuffle(batches)
    found: list[Taught] = []
    for some in batches:
        if found and room <= 0:
            break
        taught = teacher.teach(some)
        room -= taught.tokens
        found.append(taught)
    return found


def _batches(queries: Sequence[Query], at_once: int) -> list[list[Query]]:
    """Questions in batches of about one length."""
    ordered = sorted(queries, key=lambda one: (len(one.pictures), len(one.question)))
    return [ordered[first : first + at_once] for first in range(0, len(ordered), at_once)]


@contextmanager
def _frozen(backbone: Backbone) -> Iterator[None]:
    """No parameter of the model has gradients meanwhile."""
    before = [parameter for parameter in backbone.core.parameters() if parameter.requires_grad]
    for parameter in before:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in before:
            parameter.requires_grad_(True)


def _learn(
    pupil: Pupil, lessons: Lessons, steps: int, rng: random.Random, progress: Progress
) -> tuple[Mapping[tuple[int, str], Tensor] | None, dict[str, float | int]]:
    """The numbers of the best look, None where none is surely better, and what is noted of it."""
    learned = pupil.learned
    groups = [
        {"params": [tensor], "lr": _rate(name, tensor)} for (_, name), tensor in learned.items()
    ]
    first = [float(group["lr"]) for group in groups]  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
    mean = {key: tensor.detach().clone() for key, tensor in learned.items()}
    before = _judge(pupil, lessons.judged, mean)
    best, taken, kept = before, 0, None
    order: list[int] = []
    every = max(1, steps // _LOOKS)
    for step in range(1, steps + 1):
        share = min(1.0, step / _WARMING) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
        for group, rate in zip(optimiser.param_groups, first, strict=True):
            group["lr"] = rate * share
        if not order:
            order = rng.sample(range(len(lessons.learned)), len(lessons.learned))
        with torch.enable_grad():
            loss = pupil.loss(lessons.learned[order.pop()])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        if not bool(torch.isfinite(loss)):
            break
        optimiser.step()
        with torch.no_grad():
            for key, tensor in learned.items():
                mean[key].lerp_(tensor, max(0.05, 10 / (step + 10)))
        progress("polish", step, steps)
        if step % every == 0 or step == steps:
            found = _judge(pupil, lessons.judged, mean)
            if float(found.mean()) < float(best.mean()):
                best, taken = found, step
                kept = {key: tensor.clone() for key, tensor in mean.items()}
    if not is_surely_better(best, before, GAIN, SURE):
        best, taken, kept = before, 0, None
    progress("polish", steps, steps)
    notes: dict[str, float | int] = {
        "step": taken,
        "before": float(f"{float(before.mean()):.4g}"),
        "after": float(f"{float(best.mean()):.4g}"),
    }
    return kept, notes


def _rate(name: str, tensor: Tensor) -> float:
    size = 1.0 if name == "bias" else float(tensor.detach().pow(2).mean().sqrt())
    return RATES[name] * size


@torch.no_grad()
def _judge(
    pupil: Pupil, judged: Sequence[Taught], numbers: Mapping[tuple[int, str], Tensor]
) -> Tensor:
    """(batches,) the losses of left-out questions with other numbers than the learned ones."""
    own = dict(pupil.learned)
    pupil.learned.update(numbers)
    try:
        return torch.tensor([float(pupil.loss(taught)) for taught in judged], dtype=torch.float64)
    finally:
        pupil.learned.update(own)
