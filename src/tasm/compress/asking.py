"""Do no harm where what stays is fitted: the memory itself is tried, demonstrations asked again.

They are asked in turn as queries whose demonstration is in the memory, and with their own
demonstration hidden, as queries that are new. Knows a replay and layers; not who made them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tasm.compress.replay import ReadAgain, Replay
from tasm.compress.trial import spaced
from tasm.memory import LayerTokens
from tasm.memory.tokens import TokenTable


@dataclass(frozen=True, eq=False)
class Asking:
    """Demonstrations `numbers` of the transcript, to be asked over memories.

    ```python
    asking = Asking.of(stage.replay, tokens, everything, 4)
    asking.losses(candidate)              # (4,) nats, lower is better
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
        reading: ReadAgain | None = None,
    ) -> "Asking":
        """Ask at most `at_most` demonstrations, evenly spaced, over everything; what `reading` has
        heard of all of them over everything is not asked again."""
        asked = spaced(len(replay.demonstrations), at_most)
        some = tuple(replay.demonstrations[number] for number in asked)
        numbers = tuple(int(transcript.demonstration.max()) for transcript in some)
        asking = cls(replace(replay, demonstrations=some), numbers, tokens, ReadAgain(()))
        if reading is None or len(reading.said) < len(replay.demonstrations):
            return replace(asking, teacher=asking.said(everything))
        said = {row: reading.said[number] for row, number in enumerate(asked) if row % 2 == 0}
        new = range(1, len(asked), 2)
        said |= dict(zip(new, asking.said(everything, new).said, strict=True))
        heard = tuple(said[row] for row in range(len(asked)))
        return replace(asking, teacher=ReadAgain(heard))

    def losses(self, candidate: Mapping[int, LayerTokens]) -> Tensor:
        """Return (demonstrations,) Jensen-Shannon divergences of what is said from what is said
        over everything, nats, means over an answer's tokens."""
        return self.replay.divergences(self.teacher.said, self.said(candidate).said)

    def said(
        self, layers: Mapping[int, LayerTokens], some: Sequence[int] | None = None
    ) -> ReadAgain:
        """Ask every demonstration, or `some` by their rows, every second with itself hidden."""
        asked = range(len(self.numbers)) if some is None else some

        def hides(rows: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
            # -1 is the head's number, which is hidden from nobody; -2 is nobody's.
            own = [self.numbers[asked[row]] if asked[row] % 2 else -2 for row in rows]
            for layer, kept in layers.items():
                index = kept.index[:1] if kept.index.stride(0) == 0 else kept.index
                of = self.tokens.demonstration.to(index.device)[index.long()]
                yield layer, of == torch.tensor(own, device=of.device)[:, None, None]

        demonstrations = tuple(self.replay.demonstrations[row] for row in asked)
        return replace(self.replay, demonstrations=demonstrations).read(layers, hides=hides)
