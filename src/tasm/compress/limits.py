"""Refusing demonstrations that take more positions than the model was trained for, before reading
them."""

import torch

from tasm.backbone.geometry import Geometry
from tasm.backbone.limits import check_positions
from tasm.backbone.prompt.transcript import Transcript

ANSWER_POSITIONS = 32
"""Positions left for an answer."""


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
