"""Finds the demonstrations that a memory was built from, each used only if its hash agrees.

Recorded paths are hints. What is found is compared, pixels and text, with the content hash that
the memory recorded; anything else counts as gone.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasm.arguments import unheard
from tasm.demonstrations import Demonstration, Message, Picture, content_hash, read_demonstrations
from tasm.demonstrations.marks import escape_marks, split_at_marks
from tasm.errors import DemonstrationError, InputError
from tasm.memory import DemonstrationEntry, TaskMemory


def originals_of(memory: TaskMemory, given: Any = None) -> list[Demonstration] | None:
    """Return the demonstrations that a memory was built from, in its order: out of those given, or
    the recorded files; None where a recorded one is gone.

    ```python
    demonstrations = originals_of(tasm.load("birds.tasm"), "moved/birds.jsonl")
    ```

    Rows that are given without a question get the one that all of the memory's demonstrations
    share; those that cannot be read are passed over, because what counts is whether the memory's
    own are there. Raises `InputError` where one of them is missing.
    """
    question = _common_question(memory)
    if given is None:
        return _recorded(memory, question)
    rows = read_demonstrations(given, question=question, skip_bad_rows=True, warn=unheard)
    by_content = {one.content_hash: one for one in rows}
    missing = [entry.id for entry in memory.demonstrations if entry.content_hash not in by_content]
    if missing:
        named = isinstance(given, str | os.PathLike)
        raise InputError(
            f"{given if named else 'The list of demonstrations'} holds {len(rows)} demonstrations, "
            f"but not all that the memory was built from: {len(missing)} of "
            f"{len(memory.demonstrations)} are missing or differ in text or pixels, the first is "
            f"{missing[0]!r}. Give the demonstrations as they were built from."
        )
    return [by_content[entry.content_hash] for entry in memory.demonstrations]


def _recorded(memory: TaskMemory, question: str | None) -> list[Demonstration] | None:
    from_files: dict[Path, dict[str, Demonstration]] = {}
    found = []
    for entry in memory.demonstrations:
        one = _from_entry(memory, entry) or _from_file(entry, question, from_files)
        if one is None:
            return None
        found.append(one)
    return found or None


def _common_question(memory: TaskMemory) -> str | None:
    """Return the question that all demonstrations share: what `--question` was, if it was given."""
    texts = {entry.question for entry in memory.demonstrations}
    if None in texts:
        return None
    # Without marks in the middle: the question stood behind its pictures.
    pieces = [split_at_marks(text) for text in texts if text]
    bare = {found[-1] for found in pieces if not any(found[:-1])}
    question = bare.pop() if len(bare) == 1 and len(pieces) == len(texts) else None
    return escape_marks(question) if question else None


def _from_entry(memory: TaskMemory, entry: DemonstrationEntry) -> Demonstration | None:
    """One question, one answer: all there is to it stands in the memory but the pictures."""
    if entry.question is None or entry.answer is None:
        return None
    if any(picture.path is None for picture in entry.pictures):
        return None
    pictures = [Picture(Path(str(picture.path))) for picture in entry.pictures]
    content = tuple(_with_pictures(entry.question, pictures))
    turn = (Message("user", content), Message("assistant", (entry.answer,)))
    system = memory.layout.system
    file = None if entry.origin is None else Path(entry.origin)
    heads = [()] if system is None else [(Message("system", (system,)),), ()]
    try:
        for head in heads:
            messages = (*head, *turn)
            if content_hash(messages) == entry.content_hash:
                origin = entry.origin or ""
                return Demonstration(entry.id, messages, entry.content_hash, origin, file)
    except (DemonstrationError, OSError):  # a picture is gone, or is one no more
        return None
    return None


def _with_pictures(question: str, pictures: list[Picture]) -> Iterator[str | Picture]:
    texts = split_at_marks(question)
    for number, text in enumerate(texts):
        if number > 0 and number <= len(pictures):
            yield pictures[number - 1]
        if text:
            yield text


def _from_file(
    entry: DemonstrationEntry,
    question: str | None,
    from_files: dict[Path, dict[str, Demonstration]],
) -> Demonstration | None:
    """Read the file that it came from once more."""
    if entry.origin is None:
        return None
    path = Path(entry.origin)
    if path not in from_files:
        try:
            rows = read_demonstrations(path, question=question, skip_bad_rows=True, warn=unheard)
        except (DemonstrationError, OSError):
            rows = []
        from_files[path] = {one.content_hash: one for one in rows}
    return from_files[path].get(entry.content_hash)
