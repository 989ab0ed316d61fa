"""What a vision memory is trained on: tasks, and runs of their rows.

A task is a file of demonstrations, or a folder as `tasm suite` writes one, whose queries are what
is asked after its demonstrations. Knows rows; neither models nor tokens.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tasm.arguments import unheard
from tasm.demonstrations import (
    Demonstration,
    Message,
    Query,
    content_hash,
    read_demonstrations,
    read_queries,
)
from tasm.errors import DemonstrationError, InputError

DEMONSTRATIONS, QUERIES = "demonstrations.jsonl", "queries.jsonl"


@dataclass(frozen=True)
class Task:
    """Rows to show and rows to ask; the same ones where a file does not tell them apart."""

    name: str
    shown: tuple[Demonstration, ...]
    asked: tuple[Query, ...]
    asks_others: bool

    @property
    def digest(self) -> str:
        """The SHA-256 of all rows."""
        found = hashlib.sha256(b"tasm training task\0")
        for row in self.shown:
            found.update(row.content_hash.encode())
        for query in self.asked:
            found.update(content_hash(query.messages).encode() + repr(query.answers).encode())
        return found.hexdigest()


@dataclass(frozen=True)
class Run:
    """Rows as one conversation: those shown, then those whose answers are learned."""

    rows: tuple[Demonstration, ...]
    shown: int


def read_tasks(places: Sequence[Path], warn: Callable[[str], None] | None = None) -> list[Task]:
    """Read tasks: files of demonstrations, folders with demonstrations and queries, or folders of
    such folders.

    ```python
    tasks = read_tasks([Path("birds.jsonl"), Path("suites/train")])
    ```

    Raises `DemonstrationError` for rows that cannot be read, `InputError` where there is no task.
    """
    found: list[Task] = []
    for place in places:
        inner = sorted(place.glob(f"*/{DEMONSTRATIONS}")) if place.is_dir() else []
        for folder in [one.parent for one in inner] or [place]:
            found.append(_read(folder, warn))
    if not found:
        raise InputError("There is nothing to train on; expected at least one file or folder.")
    return found


def _read(place: Path, warn: Callable[[str], None] | None) -> Task:
    say = warn or unheard
    if (place / DEMONSTRATIONS).is_file() and (place / QUERIES).is_file():
        shown = tuple(read_demonstrations(place / DEMONSTRATIONS, warn=say))
        asked = tuple(read_queries(place / QUERIES, warn=say))
        unknown = next((query for query in asked if not query.answers), None)
        if unknown is not None:
            raise DemonstrationError(
                f"{place / QUERIES}: query {unknown.id} has no answer, so nothing can be learned "
                "from it. Give every query an answer."
            )
        return Task(str(place), shown, asked, asks_others=True)
    rows = tuple(read_demonstrations(place, warn=say))
    asked = tuple(row.as_query() for row in rows)
    return Task(str(place), rows, asked, asks_others=False)


def solved(query: Query) -> Demonstration:
    """Return a query with its first accepted answer, as a demonstration."""
    messages = (*query.messages, Message("assistant", (query.answers[0],)))
    return Demonstration(query.id, messages, content_hash=content_hash(messages))


def draw(random: Random, task: Task, shots: int, asked: int) -> Run:
    """Draw a run of a task: `shots` rows, then `asked` others (fewer where there are fewer).

    ```python
    run = draw(Random(0), task, shots=8, asked=4)
    run.rows[run.shown:]      # those whose answers are learned
    ```
    """
    if task.asks_others:
        shown = random.sample(task.shown, min(shots, len(task.shown)))
        queries = random.sample(task.asked, min(asked, len(task.asked)))
    else:
        numbers = random.sample(range(len(task.asked)), min(shots + asked, len(task.asked)))
        chosen = numbers[-min(asked, len(numbers)) :]
        shown = [task.shown[n] for n in numbers[: len(numbers) - len(chosen)]]
        queries = [task.asked[n] for n in chosen]
    return Run((*shown, *(solved(query) for query in queries)), len(shown))
