"""mixed: demonstrations of two tasks in one memory; a query belongs to one of them."""

from __future__ import annotations

from dataclasses import replace

from tasm.suites.episodes import Episode, Turn, World
from tasm.suites.tasks.bind import bind
from tasm.suites.tasks.needle import needle
from tasm.suites.tasks.rule import rule


def mixed(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """Bind with rule or with needle, shuffled into each other."""
    rng, half = world.rng, demonstrations // 2
    first = bind(world, demonstrations - half, queries, ways)
    second = (
        rule(world, half, queries, 3) if rng.random() < 0.5 else needle(world, half, queries, 0)
    )
    both = (first, second)
    sides = [0] * (demonstrations - half) + [1] * half
    rng.shuffle(sides)
    moved: list[list[int]] = [[], []]
    for index, side in enumerate(sides):
        moved[side].append(index)

    def at(turn: Turn, side: int, index: int, count: int) -> Turn:
        hints = [
            replace(h, turn=moved[side][h.turn] if h.turn < count else index) for h in turn.hints
        ]
        return replace(turn, hints=hints)

    turns, asked = [], []
    for index, side in enumerate(sides):
        shown = both[side].demonstrations
        turns.append(at(shown[moved[side].index(index)], side, index, len(shown)))
    for q in range(queries):
        side = q % 2
        count = len(both[side].demonstrations)
        asked.append(at(both[side].queries[q], side, demonstrations + q, count))
    return Episode(turns, asked)
