"""Do no harm: a memory is tried before it is chosen, by asking some demonstrations again.

Every one is asked twice: as a query whose demonstration is in the memory, and with its own
demonstration hidden, as a query that is new. Knows a replay and layers; not who made them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tasm.compress.replay import ReadAgain, Replay
from tasm.memory import LayerTokens
from tasm.memory.tokens import TokenTable

NO_HARM = 0.01
"""Nats, known and new queries added, that other parts must be better by."""

SURE = 1.0
"""Standard errors over demonstrations that they must be better by."""


@dataclass(frozen=True, eq=False)
class Trial:
    """Demonstrations `numbers` of the transcript, to be asked over candidates.

    ```python
    trial = Trial.of(stage.replay, tokens, everything, 8)
    trial.losses(candidate)               # (8,) nats, lower is better
    ```
    """

    replay: Replay
    numbers: tuple[int, ...]
    tokens: TokenTable
    teacher: ReadAgain

    @classmethod
    def of(
        cls,
        replay: Replay,
        tokens: TokenTable,
        everything: Mapping[int, LayerTokens],
        at_most: int,
    ) -> "Trial":
        """Ask at most `at_most` demonstrations, evenly spaced, over everything."""
        asked = spaced(len(replay.demonstrations), at_most)
        some = tuple(replay.demonstrations[number] for number in asked)
        numbers = tuple(int(transcript.demonstration.max()) for transcript in some)
        twice = replace(replay, demonstrations=some + some)
        return cls(twice, numbers, tokens, _asked(twice, numbers, tokens, everything))

    def losses(self, candidate: Mapping[int, LayerTokens]) -> Tensor:
        """Return (demonstrations,) Jensen-Shannon divergences of what is said from what is said
        over everything, nats, means over an answer's tokens, known and new queries added."""
        said = _asked(self.replay, self.numbers, self.tokens, candidate)
        pairs = zip(self.teacher.said, said.said, strict=True)
        nats = [
            self.replay.divergence(ReadAgain((before,)), ReadAgain((after,)))
            for before, after in pairs
        ]
        return torch.tensor(nats).reshape(2, -1).sum(0)


def spaced(count: int, at_most: int) -> list[int]:
    """Return at most `at_most` numbers below `count`, evenly spaced.

    ```python
    >>> spaced(10, 3)
    [0, 3, 6]
    ```
    """
    return sorted({number * count // at_most for number in range(at_most)})


def least_harm(losses: Sequence[Tensor]) -> int:
    """Return which of several candidates to take, of their (demonstrations,) `losses`: the first,
    or what is surely better, and of that what loses least.

    ```python
    >>> least_harm([torch.tensor([0.5, 0.4, 0.6]), torch.tensor([0.1, 0.1, 0.1])])
    1
    >>> least_harm([torch.tensor([0.5, 0.0, 0.0]), torch.tensor([0.1, 0.1, 0.1])])
    0
    ```
    """
    first = losses[0]
    surely = [0]
    for number, other in enumerate(losses):
        gain = first - other
        error = float(gain.std()) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
        if float(gain.mean()) > max(NO_HARM, SURE * error):
            surely.append(number)
    return min(surely, key=lambda number: float(losses[number].mean()))


def _asked(
    twice: Replay,
    numbers: tuple[int, ...],
    tokens: TokenTable,
    layers: Mapping[int, LayerTokens],
) -> ReadAgain:
    """Ask every demonstration, and then once more with itself hidden."""
    hidden = {layer: own_of(kept, tokens, numbers) for layer, kept in layers.items()}
    nothing = {layer: torch.zeros_like(own) for layer, own in hidden.items()}
    both = {layer: torch.cat([nothing[layer], own]) for layer, own in hidden.items()}
    return twice.read(layers, hidden=both)


def own_of(kept: LayerTokens, tokens: TokenTable, numbers: Sequence[int]) -> Tensor:
    """Return (numbers, kv_heads, entries) bool: which entries are tokens of each demonstration."""
    table = tokens.demonstration.to(kept.index.device)
    asked = torch.tensor(numbers, device=table.device)
    return table[kept.index.long()] == asked[:, None, None]
