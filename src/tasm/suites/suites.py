"""The suites: tasks with their settings, in memory or as the files a user would bring."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tasm.suites import pictures
from tasm.suites.episodes import Episode, Task, Turn, World
from tasm.suites.tasks.bind import bind
from tasm.suites.tasks.count import count
from tasm.suites.tasks.digits import digits
from tasm.suites.tasks.late import late
from tasm.suites.tasks.locate import locate
from tasm.suites.tasks.mixed import mixed
from tasm.suites.tasks.needle import needle
from tasm.suites.tasks.pair import pair
from tasm.suites.tasks.read import read
from tasm.suites.tasks.rule import rule

SPLITS = ("held-out", "train")


@dataclass(frozen=True)
class Suite:
    """A task family with the settings it is measured at; `ways` is 0 where it has none."""

    name: str
    description: str
    task: Task
    demonstrations: int
    ways: int = 0
    glyph_face: bool = True


SUITES: dict[str, Suite] = {
    s.name: s
    for s in (
        Suite("bind", "the made-up word of each of some unseen glyph classes", bind, 40, 8),
        Suite("rule", "which attribute decides, and the words for its values", rule, 36, 3, False),
        Suite("locate", "where a target is, in the demonstrations' own words", locate, 16),
        Suite("count", "how many of what the demonstrations point at", count, 16, 4, False),
        Suite("read", "which letter of a short text, and in which form", read, 16),
        Suite("digits", "as bind, on real handwriting", digits, 40, 5, False),
        Suite("needle", "a detail of one of many pictures, named only in the query", needle, 50),
        Suite("mixed", "two tasks in one memory, the query belongs to one", mixed, 40, 6),
        Suite("late", "several attributes, and only the query says which decides", late, 24, 4),
        Suite("pair", "two attributes together decide (never trained on)", pair, 32, 4, False),
    )
}


def suite(name: str) -> Suite:
    """A suite by name."""
    if name not in SUITES:
        raise ValueError(f"no suite {name!r}; there are {', '.join(SUITES)}")
    return SUITES[name]


def episode(
    name: str,
    seed: int = 0,
    split: str = "held-out",
    demonstrations: int | None = None,
    queries: int = 40,
    ways: int | None = None,
    font: str | None = None,
) -> Episode:
    """One seed's task in memory: its demonstrations, and queries that they all serve."""
    chosen = suite(name)
    if split not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)}, not {split!r}")
    shown = chosen.demonstrations if demonstrations is None else demonstrations
    if shown < 1 or queries < 1:
        raise ValueError("demonstrations and queries are at least 1")
    if ways is not None and (not chosen.ways or not 2 <= ways <= LIMITS[name]):
        if not chosen.ways:
            raise ValueError(f"the suite {name} takes no number of ways")
        raise ValueError(f"ways of {name}: 2 to {LIMITS[name]}, not {ways}")
    rng = Random(f"{name} {split} {seed}")
    world = World(rng, split, font, long=split == "held-out" or rng.random() < 0.5)
    return chosen.task(world, shown, queries, chosen.ways if ways is None else ways)


LIMITS = {"bind": 40, "rule": 4, "count": 8, "digits": 10, "mixed": 20, "late": 10, "pair": 4}


def write_suite(
    name: str,
    out: str | Path,
    demonstrations: int | None = None,
    queries: int = 40,
    seed: int = 0,
    split: str = "held-out",
    ways: int | None = None,
    font: str | None = None,
) -> dict[str, object]:
    """Write demonstrations.jsonl, queries.jsonl and images/*.png; the same files for a seed."""
    made = episode(name, seed, split, demonstrations, queries, ways, font)
    folder = Path(out)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    shown = _write(folder, "demonstrations", "d", made.demonstrations)
    asked = _write(folder, "queries", "q", made.queries)
    return {
        "demonstrations": str(folder / "demonstrations.jsonl"),
        "queries": str(folder / "queries.jsonl"),
        "files": shown + asked + 2,
    }


def _write(folder: Path, name: str, letter: str, turns: list[Turn]) -> int:
    lines, files = [], 0
    for index, turn in enumerate(turns):
        paths = []
        for number, picture in enumerate(turn.pictures()):
            path = f"images/{letter}{index:04d}{'abcdefgh'[number] if number else ''}.png"
            pictures.draw(picture).save(folder / path)
            paths.append(path)
        files += len(paths)
        row = {"images": paths, "question": turn.question(), "answer": turn.answer}
        lines.append(json.dumps(row, ensure_ascii=False))
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return files
