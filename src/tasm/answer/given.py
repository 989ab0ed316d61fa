"""Whatever stands for a memory, queries or pictures in a call becomes what the room works with.

Knows the kinds of things people pass; nothing of how a query is answered.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tasm.arguments import path, shown, text
from tasm.demonstrations import Demonstration, Query, make_query, read_queries
from tasm.errors import InputError
from tasm.memory import TaskMemory


def as_memory(memory: Any) -> TaskMemory:
    """Return a task memory, opened where a path is given.

    ```python
    as_memory("birds.tasm")
    ```

    Raises `InputError` for anything else, and what `tasm.load` raises.
    """
    if isinstance(memory, TaskMemory):
        return memory
    if isinstance(memory, str | os.PathLike):
        return TaskMemory.load(path(memory, "memory", "the folder of a task memory"))
    raise InputError(
        f"memory is {shown(memory)}; expected a task memory (tasm.build, tasm.load) or its folder."
    )


def as_queries(queries: Any) -> list[Query]:
    """Return queries of a file, of rows in Python (dicts, a generator, a DataFrame), or of
    `Query`s.

    ```python
    as_queries("queries.jsonl")
    as_queries({"images": [name], "question": "Which bird?"} for name in names)
    ```

    Raises `InputError` for anything else, and what `tasm.read_queries` raises.
    """
    if isinstance(queries, Query):
        return [queries]
    if isinstance(queries, str | os.PathLike):
        return read_queries(path(queries, "queries", "a file or folder of queries"))
    if queries is None or isinstance(queries, bytes) or not isinstance(queries, Iterable):
        raise InputError(
            f"queries is {shown(queries)}; expected a file, rows in Python or Query objects."
        )
    if isinstance(queries, Mapping):
        raise InputError("queries is one row; expected a list of rows: [row].")
    if isinstance(queries, list | tuple | Iterator):
        rows = list(queries)  # an iterator gives its rows once only
        if all(isinstance(row, Query) for row in rows):  # an empty list, too
            return rows
        own = (one.as_query() if isinstance(one, Demonstration) else one for one in rows)
        return read_queries(list(own))
    return read_queries(queries)


def as_query(question: Any, images: Any) -> Query:
    """Return one query; a single picture may stand without a list, None means no picture.

    Raises `InputError` that names `question` or `images`.
    """
    text(question, "question")
    if images is None:
        images = ()
    if isinstance(images, Mapping):
        raise InputError("images is a dict; expected a picture or a list of pictures.")
    listed = isinstance(images, Iterable) and not isinstance(images, bytes | str | os.PathLike)
    several = images if listed and not _is_array_of_pixels(images) else [images]
    paths = [Path(image) if isinstance(image, os.PathLike) else image for image in several]
    return make_query(question, images=paths)


def _is_array_of_pixels(images: Any) -> bool:
    """Whether it is one picture as an array: height, width and perhaps channels."""
    return len(getattr(images, "shape", ())) in (2, 3)
