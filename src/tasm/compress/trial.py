"""Do no harm: what a memory would keep is tried before it is chosen, on the answers of some
demonstrations.

The rows that say an answer, and a few before them, are read anew where they stood, over what would
be kept of everything earlier and the rest of their own demonstration, which a query brings. All of
it is hidden, nothing copied: what leaves is neither merged nor fitted in a trial. Knows a replay
and layers; not who chose.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tasm.backbone.prompt.images import NO_IMAGES
from tasm.backbone.prompt.transcript import Role, Transcript
from tasm.compress.replay import Replay
from tasm.memory import LayerTokens
from tasm.memory.tokens import TokenTable

NO_HARM = 0.005
"""Nats that other parts must be better by."""

SURE = 1.0
"""Standard errors over demonstrations that they must be better by."""

ROWS = 3
"""Rows before an answer that are read anew with it."""

_ROWS = 10
"""Pairs of a demonstration and a candidate that are read together."""


@dataclass(frozen=True, eq=False)
class Trial:
    """Demonstrations `numbers` of the transcript, whose answers are said again.

    ```python
    trial = Trial.of(stage.replay, tokens, everything, 3)
    trial.losses([kept, others])          # (3,) nats each, lower is better
    ```
    """

    replay: Replay
    numbers: tuple[int, ...]
    tokens: TokenTable
    everything: Mapping[int, LayerTokens]
    teacher: list[tuple[Tensor, ...]] = field(default_factory=list)
    """What is said over everything, once it has been."""

    @classmethod
    def of(
        cls,
        replay: Replay,
        tokens: TokenTable,
        everything: Mapping[int, LayerTokens],
        at_most: int,
    ) -> "Trial":
        """Have the answers said of at most `at_most` demonstrations of the later half."""
        count = len(replay.demonstrations)
        some = [replay.demonstrations[count // 2 + n] for n in spaced(count - count // 2, at_most)]
        numbers = tuple(int(transcript.demonstration.max()) for transcript in some)
        ends, starts = zip(*map(_end, some), strict=True)
        first = [int((tokens.demonstration == number).nonzero()[0]) for number in numbers]
        index = [begin + start for begin, start in zip(first, starts, strict=True)]
        where = torch.tensor(index, device=tokens.positions.device)
        places = tokens.positions[:, where].amax(0).tolist()
        asked = replace(
            replay,
            demonstrations=ends,
            starts=tuple(zip(places, index, strict=True)),
            at_once=_ROWS,
        )
        return cls(asked, numbers, tokens, everything)

    def losses(self, candidates: Sequence[Mapping[int, Tensor]]) -> list[Tensor]:
        """Return for each of several (demonstrations,) Jensen-Shannon divergences of what is said
        from what is said over everything, nats, means over an answer's tokens; a candidate is by
        layer (kv_heads, entries) bool, what it keeps."""
        first = len(self.teacher) == 0
        found = self.said([{}, *candidates] if first else candidates)
        if first:
            self.teacher.append(found.pop(0))
        return [self.replay.divergences(self.teacher[0], said) for said in found]

    def said(self, candidates: Sequence[Mapping[int, Tensor]]) -> list[tuple[Tensor, ...]]:
        """Return for each of several what the demonstrations' answers are said by over it, (rows,
        hidden_size) each; all are read together, a row for every pair."""
        count = len(self.numbers)

        def hides(numbers: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
            pairs = [(candidates[number // count], number % count) for number in numbers]
            for layer in self.everything:
                hidden = self._unseen(layer)
                rows = [hidden(kept.get(layer), one) for kept, one in pairs]
                yield layer, torch.cat(torch.broadcast_tensors(*rows))

        times = len(candidates)
        asked = replace(
            self.replay,
            demonstrations=self.replay.demonstrations * times,
            starts=self.replay.starts * times,
        )
        found = asked.read(self.everything, hides=hides).said
        return [found[first : first + count] for first in range(0, count * times, count)]

    def _unseen(self, layer: int) -> Callable[[Tensor | None, int], Tensor]:
        """What a demonstration does not see of a layer, (1, 1 or kv_heads, entries) bool: what
        comes later, and what is not kept of other demonstrations."""
        held = self.everything[layer]
        index = (held.index[:1] if held.index.stride(0) == 0 else held.index).long()
        of = self.tokens.demonstration.to(index.device)[index]

        def unseen(kept: Tensor | None, number: int) -> Tensor:
            later = index >= self.replay.starts[number][1]
            if kept is not None:
                later = later | ~(kept | (of == self.numbers[number]))
            return later[None]

        return unseen


def _end(demonstration: Transcript) -> tuple[Transcript, int]:
    """The last answer with `ROWS` rows before it, and where they begin; no image is among them."""
    answer = (demonstration.roles == int(Role.ANSWER)).nonzero()[:, 0]
    length = len(demonstration)
    stop = int(answer[-1]) + 1 if len(answer) else length
    before = (demonstration.roles[:stop] != int(Role.ANSWER)).nonzero()[:, 0]
    said = int(before[-1]) + 1 if len(before) and len(answer) else stop
    images = (demonstration.place[:stop, 0] >= 0).nonzero()[:, 0]
    start = max(0, said - ROWS, int(images[-1]) + 1 if len(images) else 0)
    start = min(start, stop - 1)
    rows = slice(start, stop)
    end = replace(
        demonstration,
        input_ids=demonstration.input_ids[rows],
        roles=demonstration.roles[rows],
        demonstration=demonstration.demonstration[rows],
        place=demonstration.place[rows],
        spans=((0, stop - start),),
        images=NO_IMAGES,
        text_ends=(),
    )
    return end, start


def spaced(count: int, at_most: int) -> list[int]:
    """Return at most `at_most` numbers below `count`, evenly spaced.

    ```python
    >>> spaced(10, 3)
    [0, 3, 6]
    ```
    """
    return sorted({number * count // at_most for number in range(at_most)})


def is_harmless(first: Tensor) -> bool:
    """Whether no other candidate can be better by `NO_HARM` than the first, which loses `first`.

    ```python
    >>> is_harmless(torch.tensor([0.001, 0.002]))
    True
    ```
    """
    return float(first.mean()) <= NO_HARM


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
    others = range(1, len(losses))
    better = [n for n in others if is_surely_better(losses[n], losses[0], NO_HARM, SURE)]
    return min([0, *better], key=lambda number: float(losses[number].mean()))


def is_surely_better(found: Tensor, before: Tensor, least: float, errors: float) -> bool:
    """Return whether (n,) losses `found` are lower than those `before` by `least` in the mean and
    by so many standard `errors`; of a single pair nothing is sure.

    ```python
    >>> is_surely_better(torch.tensor([0.1, 0.1]), torch.tensor([0.5, 0.4]), 0.005, 1.0)
    True
    ```
    """
    gain = before - found
    error = float(gain.std()) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
    return float(gain.mean()) > max(least, errors * error)
