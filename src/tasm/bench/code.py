"""Which code made a row: a hash of the files that could change its figures.

Knows files, imports none of them.
"""

import hashlib
from functools import cache
from pathlib import Path

ROOMS = ("answer", "backbone", "check", "compress", "demonstrations", "memory", "suites")
"""Rooms whose code decides what is measured."""

BENCH = ("cards", "cells", "features", "measure", "one_role", "prompts", "sources")
"""The same of this room's files."""

TABLES = ("table", "published", "retrieving", "forms", "variants", "listing")
"""Files that only list recipes: a row's key holds its recipe's settings."""


@cache
def code_hash() -> str:
    """Return the first 16 hex digits of the SHA-256 of that code, names and contents.

    ```python
    >>> len(code_hash())
    16
    ```
    """
    found = hashlib.sha256()
    for path, name in files():
        found.update(f"{name}\0".encode())
        found.update(path.read_bytes().replace(b"\r\n", b"\n"))
        found.update(b"\0")
    return found.hexdigest()[:16]


def files(package: Path | None = None) -> list[tuple[Path, str]]:
    """Return those files, and what each is called inside the package, in that order."""
    package = Path(__file__).parents[1] if package is None else package
    paths = [path for room in ROOMS for path in (package / room).rglob("*.py")]
    tables = package / "compress" / "recipes"
    paths = [path for path in paths if path.parent != tables or path.stem not in TABLES]
    paths += [package / "bench" / f"{name}.py" for name in BENCH]
    return sorted((path, path.relative_to(package).as_posix()) for path in paths)
