"""Positions packed closer, so that a stream goes on where the model's trained length ends.

Every demonstration keeps its inner positions; the starts of those of which anything is kept are
spread evenly over the room there is, so that demonstrations overlap in position where they must.
Knows positions; not how keys are turned there (`tasm.memory.shards`).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from tasm.backbone.attention.rotary import length_switch
from tasm.backbone.limits import ANSWER_POSITIONS, positions_taken
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Transcript
from tasm.errors import InputError
from tasm.memory.layer import LayerTokens
from tasm.memory.tokens import TokenTable

FILLED = 0.5
"""Share of the room that what is kept takes after it was packed closer; the rest is for what
comes."""


def room_before(chunk: Transcript, backbone: Backbone) -> int | None:
    """Return the positions that may lie before a chunk, so that a query of a demonstration's length
    and an answer fit behind it; None where the model names no limit.

    Raises InputError where the chunk alone is too long.
    """
    limit = backbone.geometry.max_positions
    if limit is None:
        return None
    taken = positions_taken(chunk, backbone.geometry.position_rows)
    longest = max(end - start for start, end in chunk.spans)
    room = limit - taken - longest - ANSWER_POSITIONS
    if room < 0:
        raise InputError(
            f"The model was trained for {limit:,} positions, and one chunk needs "
            f"{limit - room:,}: {taken:,} for {len(chunk.spans)} demonstrations, {longest:,} for a "
            f"question and {ANSWER_POSITIONS} for the answer. Read fewer tokens at a time "
            "(--chunk-tokens), or use smaller images (--max-pixels)."
        )
    return room


def check_rotation(backbone: Backbone) -> None:
    """Raise InputError for a model whose rotation depends on how long the prompt is."""
    switch = length_switch(backbone.decoder)
    if switch is not None:
        raise InputError(
            f"The demonstrations go on beyond the {backbone.geometry.max_positions:,} positions "
            f"that the model was trained for, and its rotation ({switch.kind}) depends on a "
            "prompt's length, so that kept positions cannot be packed closer. Build from fewer "
            "demonstrations, or use smaller images (--max-pixels)."
        )


def shifts_to_fit(
    tokens: TokenTable, starts: Tensor, kept: Iterable[LayerTokens], room: int
) -> Tensor:
    """Return by how much each demonstration moves, (demonstrations,) int64, none of them on.

    `starts` (demonstrations,) are first tokens, `room` the positions that all may take. Those of
    which nothing is kept go where the one before them is.
    """
    device = tokens.demonstration.device
    count = len(starts)
    present = torch.zeros(count, dtype=torch.bool, device=device)
    for layer in kept:
        index = layer.index.to(device).long()
        mine = tokens.demonstration[index if layer.padding is None else index[~layer.padding]]
        present[mine[mine >= 0].long()] = True
    present[0] = True
    positions = tokens.positions.long()
    begins = positions[:, starts.to(device)].amin(0)
    mine = tokens.demonstration.long().clamp(min=0)
    ends = torch.full((count,), -1, dtype=torch.long, device=device)
    of_demonstrations = tokens.demonstration >= 0
    ends.scatter_reduce_(0, mine[of_demonstrations], positions.amax(0)[of_demonstrations], "amax")
    longest = int((ends - begins).max()) + 1
    head = int(begins[0])
    width = max(0, room - head - longest)
    order = present.long().cumsum(0) - 1
    places = head + order * width // max(1, int(present.sum()) - 1)
    return torch.minimum(places - begins, torch.zeros_like(begins))
