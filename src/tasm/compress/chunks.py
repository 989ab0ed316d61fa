"""Cutting a transcript into chunks at demonstration edges. Knows lengths, no tensors."""

from collections.abc import Sequence

CHUNK_TOKENS = {"joint": 2048, "streaming": 1024, "independent": 1}
"""Tokens encoded at a time unless told otherwise, by build mode; one demonstration at least."""


def chunk_edges(spans: Sequence[tuple[int, int]], chunk_tokens: int) -> list[tuple[int, int]]:
    """Return (first, stop) demonstrations of every chunk: as many as fit, at least one.

    The head (system prompt) counts with the first.

    ```python
    >>> chunk_edges([(5, 40), (40, 75), (75, 200)], 80)
    [(0, 2), (2, 3)]
    ```
    """
    edges: list[tuple[int, int]] = []
    first, start = 0, 0
    for number, (_, end) in enumerate(spans):
        if number > first and end - start > chunk_tokens:
            edges.append((first, number))
            first, start = number, spans[number][0]
    if spans:
        edges.append((first, len(spans)))
    return edges
