"""The curriculum: which tasks come in which stage, how large, and how much training helps.

Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from tasm.suites.episodes import Episode, Task, World
from tasm.suites.tasks.bind import bind
from tasm.suites.tasks.count import count
from tasm.suites.tasks.late import late
from tasm.suites.tasks.locate import locate
from tasm.suites.tasks.mixed import mixed
from tasm.suites.tasks.needle import needle
from tasm.suites.tasks.read import read
from tasm.suites.tasks.rule import rule


@dataclass(frozen=True)
class Course:
    """How a task is drawn in training: sizes, ways, queries an episode."""

    task: Task
    sizes: tuple[int, ...]
    ways: tuple[int, ...]
    queries: int


COURSES = {
    "bind": Course(bind, (6, 8, 12, 16, 24, 32, 40, 48), (2, 3, 4, 6, 8, 10), 2),
    "needle": Course(needle, (2, 4, 6, 8, 12, 16, 24, 32, 50, 64), (0,), 24),
    "late": Course(late, (4, 6, 8, 12, 16, 24, 32), (2, 3, 4, 5, 6), 8),
    "rule": Course(rule, (8, 12, 16, 24, 32, 40), (2, 3, 3, 4), 2),
    "locate": Course(locate, (4, 6, 8, 12, 16, 24), (0,), 10),
    "count": Course(count, (6, 8, 12, 16), (3, 4), 2),
    "read": Course(read, (6, 8, 12, 16), (0,), 2),
    "mixed": Course(mixed, (16, 24, 32, 48), (3, 4, 6), 12),
}


@dataclass(frozen=True)
class Phase:
    """One stage: how often each task comes (and from when on), and how much training helps."""

    shares: dict[str, float]
    joins: dict[str, float]
    guidance: tuple[float, float]  # at the beginning, and at `fades`; none after
    fades: float
    ease: tuple[float, float]
    grows: bool  # contexts and labels grow with progress
    tower: bool  # the tower learns too
    rate: float
    bent: float = 0.0  # of large glyphs, the share bent out of shape, as handwriting is
    closer: bool = False  # inks and marks are told, and what is slow to learn comes more often


PHASES = {
    "decoder": Phase(
        {"bind": 2, "needle": 3, "late": 2.5, "rule": 2, "locate": 1.5, "mixed": 1}
        | {"count": 0.8, "read": 0.8},
        {"needle": 0.1, "rule": 0.1, "late": 0.15, "locate": 0.25, "mixed": 0.5}
        | {"count": 0.4, "read": 0.4},
        (0.3, 0.0),
        0.8,
        (0.5, 0.5),
        True,
        False,
        1.5e-3,
    ),
    "tasks": Phase(
        {"bind": 1, "needle": 1, "late": 2.5, "rule": 2.5, "locate": 1.2, "mixed": 0.5}
        | {"count": 1.2, "read": 1.5},
        {},
        (0.3, 0.1),
        1.0,
        (0.6, 0.0),
        False,
        False,
        1.2e-3,
    ),
    "joint": Phase(
        {"bind": 1.2, "needle": 1, "late": 1.5, "rule": 3.5, "locate": 1.3, "mixed": 0.7}
        | {"count": 1.5, "read": 0.6},
        {},
        (0.25, 0.0),
        0.6,
        (0.3, 0.0),
        False,
        True,
        8e-4,
    ),
}
PHASES["sharpen"] = replace(
    PHASES["joint"],
    shares={"bind": 1.4, "needle": 0.9, "late": 1.1, "rule": 4, "locate": 0.9, "mixed": 0.7}
    | {"count": 2.2, "read": 0.5},
    bent=0.5,
    closer=True,
)


def draw(rng: Random, phase: Phase, progress: float, budget: int) -> tuple[str, list[Episode], int]:
    """A task, episodes of it that fill a token budget, and how far positions may skip."""
    names = [n for n in phase.shares if phase.joins.get(n, 0.0) <= progress]
    name = rng.choices(names, [phase.shares[n] for n in names])[0]
    course, most = COURSES[name], 12 + progress * 156 if phase.grows else 64
    size = rng.choice([s for s in course.sizes if s <= most])
    ways = rng.choice([w for w in course.ways if w <= max(2, size // 2)])
    long = rng.random() < (min(0.5, progress * 4) if phase.grows else 0.5)
    gap = 0 if phase.grows else rng.choice((0, 0, 0, 10, 30))
    ease = phase.ease[0] + (phase.ease[1] - phase.ease[0]) * progress
    world = World(rng, "train", long=long, looks=False, ease=ease, wide=True, closer=phase.closer)
    tokens = size * 22 + course.queries * (7 if name == "needle" else 22)
    many = max(1, round(budget / tokens))
    return name, [course.task(world, size, course.queries, ways) for _ in range(many)], gap
