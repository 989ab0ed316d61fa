"""An explanation as an answer carries it: one record a demonstration, shares that sum to 1.

Knows what was read, what it speaks for and what masking changed; nothing of how.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from tasm.answer.explaining.attention import Reading
from tasm.answer.result import DemonstrationWeight

if TYPE_CHECKING:
    from tasm.memory import DemonstrationEntry


def demonstration_weights(
    entries: "Sequence[DemonstrationEntry]",
    reading: Reading,
    row: int,
    support: Sequence[float] | None = None,
    effects: Sequence[float] | None = None,
) -> tuple[DemonstrationWeight, ...]:
    """Return every demonstration with its shares in one row's answer, in order."""
    mass, weighted = _shares(reading.mass[:, row]), _shares(reading.weighted[:, row])
    layers = reading.layers[:, row] / reading.layers[:, row].sum().clamp_min(1e-30)
    by_layer = layers.T.tolist()
    return tuple(
        DemonstrationWeight(
            id=entry.id,
            weight=sum(weighted[number]),
            retrieved=weighted[number][1],
            attention=sum(mass[number]),
            attention_retrieved=mass[number][1],
            support=None if support is None else support[number],
            effect=None if effects is None else effects[number],
            layers=tuple(by_layer[number]),
            question=entry.question,
            answer=entry.answer,
            pictures=tuple(picture.path for picture in entry.pictures),
        )
        for number, entry in enumerate(entries)
    )


def _shares(sums: Tensor) -> list[list[float]]:
    """(core, retrieved) of each demonstration, of all that was counted."""
    pairs: list[list[float]] = (sums.double() / sums.double().sum().clamp_min(1e-30)).T.tolist()
    return pairs
