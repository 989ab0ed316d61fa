"""Where the tasks of a leaderboard come from: bundled suites, or a user's own two files.

`NAME`, `NAME@DEMONSTRATIONS` and `NAME@DEMONSTRATIONS:option=value` name a suite. Knows nothing
of models.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasm.demonstrations import Demonstration, Query, read_demonstrations, read_queries
from tasm.demonstrations.marks import IMAGE_MARK
from tasm.errors import InputError, did_you_mean
from tasm.suites.suites import SUITES, check_suite, write_suite

_SAYS_NOTHING = ("demonstrations", "examples", "train", "training", "data", "metadata")

OPTIONS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "ways": (int, "whole number", "4"),
    "font": (str, "file", "A.ttf"),
    "cosine": (float, "number", "0.85"),
}
"""What may stand after a suite's name, beside the number of demonstrations: how it is read, what it
is, an example."""


@dataclass(frozen=True)
class Episode:
    """One task: one set of demonstrations that serves all its queries.

    `depths` holds one number a query: where in the demonstrations what it needs stands
    (0 first, 1 last), None where nobody knows.
    """

    demonstrations: list[Demonstration]
    queries: list[Query]
    depths: tuple[float | None, ...]


@dataclass(frozen=True)
class SuiteSource:
    """Episodes drawn from a bundled suite.

    ```python
    >>> parse_suites("needle@100", queries=40, split="held-out")[0].label
    'needle@100'
    ```
    """

    name: str
    queries: int
    split: str
    demonstrations: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the leaderboard calls it: the name, with what differs from the suite's defaults."""
        count = "" if self.demonstrations is None else f"@{self.demonstrations}"
        options = "".join(f":{name}={value}" for name, value in self.options.items())
        return f"{self.name}{count}{options}"

    def identity(self, seed: int) -> Mapping[str, Any]:
        """Return everything that decides which episode a seed gives, as JSON."""
        return {
            "suite": self.name,
            "demonstrations": self.demonstrations,
            "options": dict(self.options),
            "queries": self.queries,
            "split": self.split,
            "seed": seed,
        }

    @property
    def _settings(self) -> dict[str, Any]:
        """What the suite is drawn with, but for the seed."""
        given = {name: self._read(name, text) for name, text in self.options.items()}
        fixed = {"demonstrations": self.demonstrations, "queries": self.queries}
        return {**fixed, "split": self.split, **given}

    def _read(self, name: str, text: str) -> Any:
        kind, what, example = OPTIONS[name]
        try:
            return kind(text)
        except ValueError as error:
            raise InputError(
                f"{name}={text} is no {what}. Write {self.name}:{name}={example}, for one."
            ) from error

    def check(self) -> None:
        """Raise `InputError` where the suite cannot be drawn with these options."""
        try:
            check_suite(self.name, **self._settings)
        except InputError as error:
            raise InputError(f"--suites {self.label}: {error}") from error

    @contextmanager
    def open(self, seed: int) -> Iterator[Episode]:
        """Render the episode of a seed into a folder that lives as long as the episode."""
        with tempfile.TemporaryDirectory(prefix="tasm-suite-") as folder:
            write_suite(self.name, Path(folder) / "suite", seed=seed, **self._settings)
            episode = read_episode(
                Path(folder) / "suite" / "demonstrations.jsonl",
                Path(folder) / "suite" / "queries.jsonl",
            )
            if self.name == "needle":
                depths = needle_depths(episode.demonstrations, episode.queries)
                episode = replace(episode, depths=depths)
            yield episode


@dataclass(frozen=True)
class FileSource:
    """A user's demonstrations and queries: one episode, whatever the seed."""

    demonstrations: Path
    queries: Path

    @property
    def label(self) -> str:
        """What the leaderboard calls it: the demonstrations' file or folder name; of a file whose
        name says nothing, such as `demonstrations.jsonl`, the folder's."""
        place = Path(os.path.abspath(self.demonstrations))
        says_nothing = place.stem.lower() in _SAYS_NOTHING
        return (says_nothing and place.parent.name) or place.stem

    def check(self) -> None:
        read_episode(self.demonstrations, self.queries)

    def identity(self, seed: int) -> Mapping[str, Any]:
        episode = read_episode(self.demonstrations, self.queries)
        return {
            "demonstrations": [item.content_hash for item in episode.demonstrations],
            "queries": [[query.id, list(query.answers)] for query in episode.queries],
        }

    @contextmanager
    def open(self, seed: int) -> Iterator[Episode]:
        yield read_episode(self.demonstrations, self.queries)


Source = SuiteSource | FileSource
"""Where episodes come from, one a seed."""


def read_episode(demonstrations: Path, queries: Path) -> Episode:
    """Read one episode from two files; nobody knows its depths.

    Raises:
        DemonstrationError: if a file cannot be read.
        InputError: if a query has no accepted answer.
    """
    shown = read_demonstrations(demonstrations)
    asked = read_queries(queries)
    for query in asked:
        if not query.answers:
            raise InputError(
                f"{queries}: query {query.id} has no answer. `tasm bench accuracy` needs an "
                '"answer" in every row: a string, or a list of accepted strings.'
            )
    return Episode(shown, asked, (None,) * len(asked))


def needle_depths(
    demonstrations: Sequence[Demonstration], queries: Sequence[Query]
) -> tuple[float | None, ...]:
    """Return where the one demonstration stands that each query names: 0 first, 1 last.

    A query of the suite `needle` begins with the tag that its demonstration's text is; None where
    no demonstration, or more than one, is named so.

    ```python
    needle_depths(episode.demonstrations, episode.queries)      # (0.25, 1.0, …)
    ```
    """
    tags = [item.question.replace(IMAGE_MARK, "").strip() for item in demonstrations]
    last = max(len(tags) - 1, 1)
    depths: list[float | None] = []
    for query in queries:
        named = [n for n, tag in enumerate(tags) if tag and query.question.startswith(f"{tag} ")]
        depths.append(named[0] / last if len(named) == 1 else None)
    return tuple(depths)


def parse_suites(text: str, *, queries: int, split: str) -> list[SuiteSource]:
    """Read a comma-separated list of suites.

    ```python
    >>> [source.label for source in parse_suites("bind,needle@100", queries=40, split="held-out")]
    ['bind', 'needle@100']
    ```

    Raises:
        InputError: if a suite is not known, or a count or option cannot be read.
    """
    sources = [_parse_suite(item.strip(), queries, split) for item in text.split(",")]
    for source in sources:
        source.check()
    labels = [source.label for source in sources]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"--suites names {label!r} twice.")
    return sources


def _parse_suite(item: str, queries: int, split: str) -> SuiteSource:
    head, *rest = item.split(":")
    name, at, count = head.partition("@")
    if name not in SUITES:
        raise InputError(
            f"There is no suite {name!r}; there are {', '.join(SUITES)}."
            + did_you_mean(name, list(SUITES))
        )
    if at and not (count.isdecimal() and int(count) > 0):
        raise InputError(
            f"{item!r}: {count!r} is not a number of demonstrations. Write {name}@100, for one."
        )
    options: dict[str, str] = {}
    for part in rest:
        option, equals, value = part.partition("=")
        if option in options:
            raise InputError(f"{item!r} gives {option} twice.")
        if not equals or option not in OPTIONS or not value:
            raise InputError(
                f"{item!r}: {part!r} is not an option; there are {', '.join(OPTIONS)}. "
                f"Write {name}:ways=4, for one."
            )
        options[option] = value
    return SuiteSource(name, queries, split, int(count) if count else None, options)
