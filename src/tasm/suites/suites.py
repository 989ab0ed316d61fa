"""The suites: tasks with their settings, in memory or as the files a user would bring."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tasm.errors import InputError, did_you_mean
from tasm.files import write_text
from tasm.suites import fonts, pictures
from tasm.suites.episodes import Episode, Task, Turn, World
from tasm.suites.tasks.bind import bind, digits
from tasm.suites.tasks.count import count
from tasm.suites.tasks.late import late
from tasm.suites.tasks.locate import locate
from tasm.suites.tasks.mixed import mixed
from tasm.suites.tasks.needle import needle
from tasm.suites.tasks.read import read
from tasm.suites.tasks.rule import pair, rule
from tasm.suites.text.forms import date, person
from tasm.suites.text.kinds import category, language, sentiment
from tasm.suites.text.pairs import of_pairs
from tasm.suites.text.room import check_room

SPLITS = ("held-out", "train")


@dataclass(frozen=True)
class Suite:
    """A task family with the settings it is measured at; `ways` is 0 where it has none.

    `kind` is `"picture"` for those that the bundled model was made for, `"text"` for those that a
    language model learns from examples; the bundled model cannot read their words.
    """

    name: str
    description: str
    task: Task
    demonstrations: int
    ways: int = 0
    glyph_face: bool = True  # whether it draws letters, and so whether a font matters
    kind: str = "picture"


def _text(name: str, description: str, task: Task, demonstrations: int, ways: int = 0) -> Suite:
    return Suite(name, description, task, demonstrations, ways, False, "text")


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
        _text("capital", "the capital of a country", of_pairs("capital"), 20),
        _text("past", "the past of an irregular verb", of_pairs("past"), 20),
        _text("plural", "the plural of a noun, regular or not", of_pairs("plural"), 20),
        _text("opposite", "the word that means the contrary", of_pairs("opposite"), 20),
        _text(
            "category", "words of some kinds, each kind called by a Greek letter", category, 60, 3
        ),
        _text("sentiment", "whether somebody liked it, called by Greek letters", sentiment, 40),
        _text("language", "which language a sentence is in", language, 36, 3),
        _text("date", "a date in the one form that the demonstrations show", date, 20),
        _text("person", "a name in the one form that the demonstrations show", person, 20),
    )
}


PICTURED = tuple(s.name for s in SUITES.values() if s.kind == "picture")
TEXT = tuple(s.name for s in SUITES.values() if s.kind == "text")


def suite(name: str) -> Suite:
    """A suite by name; raises `InputError` for an unknown one, with the nearest name."""
    if name not in SUITES:
        raise InputError(
            f"There is no suite {name!r}; there are {', '.join(SUITES)}."
            f"{did_you_mean(name, SUITES)}"
        )
    return SUITES[name]


LIMITS = {"bind": 40, "rule": 4, "count": 8, "digits": 10, "mixed": 20, "late": 10, "pair": 4}
LIMITS |= {"category": 4, "language": 6}
"""The most ways of a suite, where it has ways."""

MOST = 10_000
"""The most demonstrations, and the most queries, of any suite."""

NAMED_APART = {"needle": 1, "locate": 1, "mixed": 2}
"""Suites in which every demonstration, or every second one, has a word of its own."""

WORDS = {"held-out": 800, "train": 400}
"""How many made-up words of a split can be told apart."""

DRAWN = {"bind": 1, "mixed": 1, "late": 4, "locate": 4}
"""Suites whose glyphs are classes of the split, and how many a way (or, without ways, in all)."""

HANDWRITTEN = 100
"""Pictures of each digit; none is shown twice."""


def check_suite(
    name: str,
    split: str = "held-out",
    demonstrations: int | None = None,
    queries: int = 40,
    ways: int | None = None,
    font: str | None = None,
    cosine: float | None = None,
) -> None:
    """Refuse what no seed of a suite can give, before anything is drawn.

    ```python
    check_suite("bind", ways=4)
    ```

    Raises `InputError` for an unknown suite or split, for a number out of range, and for ways, a
    font or a cosine of a suite that has none.
    """
    chosen = suite(name)
    if split not in SPLITS:
        raise InputError(f"The split is one of {', '.join(SPLITS)}, not {split!r}.")
    shown = chosen.demonstrations if demonstrations is None else demonstrations
    classes = chosen.ways if ways is None else ways
    most = NAMED_APART[name] * WORDS[split] if name in NAMED_APART else MOST
    if shown < 1 or queries < 1:
        raise InputError(
            f"The demonstrations and queries are at least 1; {min(shown, queries)} was asked for."
        )
    for what, wanted, limit in (("demonstrations", shown, most), ("queries", queries, MOST)):
        if wanted > limit:
            raise InputError(
                f"The suite {name} has at most {limit:,} {what}; {wanted:,} were asked for."
            )
    if ways is not None and not chosen.ways:
        raise InputError(f"Without classes, the suite {name} takes no number of ways.")
    if ways is not None and not 2 <= ways <= LIMITS[name]:
        raise InputError(f"The ways of {name}: 2 to {LIMITS[name]}, not {ways}.")
    if name == "digits" and -(-shown // classes) + -(-queries // classes) > HANDWRITTEN:
        raise InputError(
            f"The suite digits shows no picture twice, and has {HANDWRITTEN} of each of its "
            f"{classes} digits: {shown} demonstrations and {queries} queries are too many."
        )
    if chosen.kind == "text":
        check_room(name, split, shown, queries, classes)
    if font is not None:
        if not chosen.glyph_face:
            raise InputError(f"The suite {name} draws no letters, so a font changes nothing.")
        needed = classes or 4
        found = len(fonts.glyphs(split, font))
        if found < needed:
            raise InputError(
                f"The font {font} holds {found} of the characters that the suites show; the suite "
                f"{name} needs {needed}."
            )
    if cosine is not None:
        _check_cosine(chosen, split, cosine, classes, font)


def _check_cosine(chosen: Suite, split: str, cosine: float, ways: int, font: str | None) -> None:
    if chosen.name not in DRAWN or split != "held-out":
        raise InputError(
            f"A cosine bounds how much held-out glyphs look like training ones; the suite "
            f"{chosen.name} of the split {split} draws none. {', '.join(DRAWN)} do."
        )
    if not 0 < cosine <= 1:
        raise InputError(f"The cosine is {cosine:g}; expected one above 0, at most 1: 0.85, say.")
    needed = DRAWN[chosen.name] * max(ways, 1)
    found = len(fonts.glyphs(split, font, cosine))
    if found < needed:
        raise InputError(
            f"{found} held-out glyphs have no training glyph at a cosine of {cosine:g} or more; "
            f"the suite {chosen.name} needs {needed}. Give a larger cosine, or fewer ways."
        )


def episode(
    name: str,
    seed: int = 0,
    split: str = "held-out",
    demonstrations: int | None = None,
    queries: int = 40,
    ways: int | None = None,
    font: str | None = None,
    cosine: float | None = None,
) -> Episode:
    """One seed's task in memory: its demonstrations, and queries that they all serve."""
    check_suite(name, split, demonstrations, queries, ways, font, cosine)
    chosen = SUITES[name]
    shown = chosen.demonstrations if demonstrations is None else demonstrations
    rng = Random(f"{name} {split} {seed}")
    long = split == "held-out" or rng.random() < 0.5
    world = World(rng, split, font, long=long, cosine=cosine)
    return chosen.task(world, shown, queries, chosen.ways if ways is None else ways)


def write_suite(
    name: str,
    out: str | Path,
    demonstrations: int | None = None,
    queries: int = 40,
    seed: int = 0,
    split: str = "held-out",
    ways: int | None = None,
    font: str | None = None,
    cosine: float | None = None,
) -> dict[str, object]:
    """Write demonstrations.jsonl, queries.jsonl and, where there are pictures, images/*.png; the
    same files for a seed."""
    made = episode(name, seed, split, demonstrations, queries, ways, font, cosine)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    if SUITES[name].kind == "picture":
        (folder / "images").mkdir(exist_ok=True)
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
        for place, picture in enumerate(turn.pictures()):
            path = f"images/{letter}{index:04d}{'abcdefgh'[place] if place else ''}.png"
            pictures.draw(picture).save(folder / path)
            paths.append(path)
        files += len(paths)
        row = {"images": paths, "question": turn.question(), "answer": turn.answer}
        lines.append(json.dumps(row, ensure_ascii=False))
    write_text(folder / f"{name}.jsonl", "\n".join(lines) + "\n")
    return files
