"""Do no harm: a memory is tried before it is chosen, by asking some demonstrations again.

Every one is asked twice: as a query whose demonstration is in the memory, and with its own
demonstration hidden, as a query that is new. Knows a replay and layers; not who made them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tasm.backbone.attention.segment import UNUSED
from tasm.compress.replay import ReadAgain, Replay
from tasm.memory import LayerTokens
from tasm.memory.tokens import TokenTable

AT_MOST = 8
"""Demonstrations that are asked."""

NO_HARM = 0.01
"""Nats, known and new queries added, below which a recipe's own parts are kept."""


@dataclass(frozen=True, eq=False)
class Trial:
    """Demonstrations `numbers` of a replay to be asked over candidates.

    ```python
    trial = Trial.of(stage.replay, tokens, everything)
    trial.loss(candidate)               # nats, lower is better
    ```
    """

    replay: Replay
    numbers: tuple[int, ...]
    tokens: TokenTable
    teacher: tuple[ReadAgain, ReadAgain]

    @classmethod
    def of(
        cls,
        replay: Replay,
        tokens: TokenTable,
        everything: Mapping[int, LayerTokens],
        at_most: int = AT_MOST,
    ) -> "Trial":
        """Ask at most `at_most` demonstrations, evenly spaced, over everything."""
        count = len(replay.demonstrations)
        asked = sorted({number * count // at_most for number in range(at_most)})
        some = replace(replay, demonstrations=tuple(replay.demonstrations[n] for n in asked))
        numbers = tuple(int(transcript.demonstration.max()) for transcript in some.demonstrations)
        return cls(some, numbers, tokens, _both(some, numbers, tokens, everything))

    def loss(self, candidate: Mapping[int, LayerTokens]) -> float:
        """Return the Jensen-Shannon divergence of what is said from what is said over everything,
        nats, known and new queries added."""
        said = _both(self.replay, self.numbers, self.tokens, candidate)
        pairs = zip(self.teacher, said, strict=True)
        return sum(self.replay.divergence(before, after) for before, after in pairs)


def _both(
    replay: Replay,
    numbers: tuple[int, ...],
    tokens: TokenTable,
    layers: Mapping[int, LayerTokens],
) -> tuple[ReadAgain, ReadAgain]:
    known = replay.read(layers)
    said: list[Tensor] = []
    for number, demonstration in zip(numbers, replay.demonstrations, strict=True):
        one = replace(replay, demonstrations=(demonstration,))
        said += one.read(
            {layer: without(kept, tokens, number) for layer, kept in layers.items()}
        ).said
    return known, ReadAgain(tuple(said))


def without(kept: LayerTokens, tokens: TokenTable, number: int) -> LayerTokens:
    """Return the tokens of a layer with those of one demonstration hidden."""
    table = tokens.demonstration.to(kept.index.device)
    own = table[kept.index.long()] == number
    bias = torch.zeros(own.shape, device=own.device) if kept.bias is None else kept.bias.float()
    return replace(kept, bias=bias.masked_fill(own, UNUSED))
