"""Refusing a conversation that is longer than the model was trained for, before it is read."""

import torch

from tasm.backbone.geometry import Geometry
from tasm.backbone.prompt.transcript import Transcript
from tasm.errors import InputError

ANSWER_POSITIONS = 32
"""Positions left for an answer while building."""

FEWER_DEMONSTRATIONS = (
    "Build from fewer demonstrations or smaller images (--max-pixels, in Python max_pixels)."
)
"""The way out while building; every mode gives a token a position of its own."""


def advice_while_asking(*, next_position: int, query_positions: int, max_positions: int) -> str:
    """Return what would fit behind a memory: fewer new tokens, or a shorter question.

    ```python
    >>> advice_while_asking(next_position=900, query_positions=50, max_positions=1000)
    'Ask for at most 50 new tokens (--max-new-tokens 50, in Python max_new_tokens=50).'
    ```
    """
    room = max_positions - next_position - query_positions
    if room > 0:
        return (
            f"Ask for at most {room:,} new tokens (--max-new-tokens {room}, in Python "
            f"max_new_tokens={room})."
        )
    behind = max_positions - next_position - 1
    if query_positions >= max_positions:  # not even without a memory
        return "The question is too long for this model, whatever the memory: shorten it."
    if behind > 0:
        return (
            f"The question is too long: behind this memory there is room for {behind:,} positions "
            "of text and images. Shorten it, or build the memory from fewer demonstrations."
        )
    return FEWER_DEMONSTRATIONS


def check_positions(
    *,
    next_position: int,
    query_positions: int,
    new_tokens: int,
    max_positions: int | None,
    advice: str = FEWER_DEMONSTRATIONS,
) -> None:
    """Raise `InputError` when a memory, a query and its answer pass what the model was trained for.

    All figures are positions; `max_positions` is None where the model does not say. `advice` ends
    the message: what would fit.

    ```python
    check_positions(next_position=31_900, query_positions=80, new_tokens=32, max_positions=32_768)
    ```
    """
    needed = next_position + query_positions + new_tokens
    if max_positions is None or needed <= max_positions:
        return
    raise InputError(
        f"The model was trained for {max_positions:,} positions, and this needs {needed:,}: "
        f"{next_position:,} for the demonstrations, {query_positions:,} for the question and "
        f"{new_tokens:,} for the answer. {advice}"
    )


def positions_taken(transcript: Transcript, position_rows: int) -> int:
    """Return how many positions a transcript takes.

    With three rows of positions an image takes as many as the longest side of its merged grid,
    otherwise every token takes one.
    """
    is_image = transcript.place[:, 0] >= 0
    if position_rows == 1 or not bool(is_image.any()):
        return len(transcript)
    place = transcript.place[is_image].long()
    image = place[:, 0] - place[:, 0].min()
    sides = torch.zeros(int(image.max()) + 1, dtype=torch.long)
    sides.scatter_reduce_(0, image, place[:, 1:].amax(1) + 1, "amax")
    return int((~is_image).sum() + sides.sum())


def check_transcript(transcript: Transcript, geometry: Geometry) -> None:
    """Raise InputError where no query of a demonstration's length would fit behind the
    transcript."""
    taken = positions_taken(transcript, geometry.position_rows)
    longest = max(end - start for start, end in transcript.spans)
    check_positions(
        next_position=taken,
        query_positions=min(longest, taken),
        new_tokens=ANSWER_POSITIONS,
        max_positions=geometry.max_positions,
    )
