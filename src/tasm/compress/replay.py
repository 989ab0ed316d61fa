"""Reading demonstrations once more against a candidate memory: what EMLoC and KVzip judge by.

Every demonstration of the stage is asked by itself, as if it came right after the memory. A reading
gives the model's states where answers are said, and attention records over the memory's entries.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.segment import UNUSED, Segment
from tasm.backbone.head import Head
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.images import NO_IMAGES
from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.listening import Listening
from tasm.compress.records.record import Record
from tasm.compress.records.recorder import Recorder
from tasm.compress.records.row_rules import Rows
from tasm.memory import LayerTokens
from tasm.memory.retrieval.gates import js_divergence

_ROWS_AT_ONCE = 64
_TOKENS_AT_ONCE = 1024
_TIMES_ELSEWHERE = 4
"""As many times more are read together on an accelerator, which small batches leave idle."""


Hides = Callable[[Sequence[int]], Iterable[tuple[int, Tensor]]]
"""By layer, what each of some demonstrations does not see."""


@dataclass(frozen=True, eq=False)
class ReadAgain:
    """One reading of every demonstration.

    `said` holds, by demonstration, the final states (rows, hidden_size) of the rows that say its
    answer; `held` the records by layer, columns for the memory's entries only.
    """

    said: tuple[Tensor, ...]
    held: Mapping[int, Mapping[Record, Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Replay:
    """Demonstrations to be read again, and everything of the memory that is not a candidate.

    `beside` gives the segments of layers that do not compete, `states` those of recurrent layers.

    ```python
    teacher = stage.replay.read(everything)
    tried = stage.replay.read(candidate)
    stage.replay.divergence(teacher, tried)                      # nats
    ```
    """

    backbone: Backbone
    demonstrations: tuple[Transcript, ...]
    beside: Sequence[tuple[Segment, ...] | None]
    states: Sequence[dict[str, Tensor] | None]
    next_position: int
    logical_length: int
    chunk: int = 0
    """Tokens of the newest chunk, the last of the memory's entries."""
    starts: tuple[tuple[int, int], ...] = ()
    """Position and logical index that each demonstration begins at, where not after the memory."""
    at_once: int = 16
    """Demonstrations that are read together, at most."""
    contexts: Callable[[], tuple[Transcript, ...]] = tuple
    """Makes the demonstrations whole contexts (`repeating`), for records that want these."""

    def read_contexts(
        self, layers: Mapping[int, LayerTokens], records: tuple[Record, ...]
    ) -> Mapping[int, Mapping[Record, Any]]:
        """Read the demonstrations again as whole contexts; returns the records by layer."""
        whole = replace(self, demonstrations=self.contexts(), starts=())
        return Replay.read(whole, layers, records).held

    def read(
        self,
        layers: Mapping[int, LayerTokens],
        records: tuple[Record, ...] = (),
        *,
        hides: Hides | None = None,
    ) -> ReadAgain:
        """Read every demonstration after a memory of `layers` (by number).

        `hides` is given the numbers of those that are read together, and yields layers with
        (numbers, 1 or kv_heads, entries) bool: what each of them does not see.
        """
        segments = self._segments(layers)
        together = all(record.takes_batches for record in records)
        pads = together and all(state is None for state in self.states)
        said: dict[int, Tensor] = {}
        with Recorder(self.backbone, records) as recorder, torch.inference_mode():
            for numbers in self._together(pads):
                chunks = [self.demonstrations[number] for number in numbers]
                cache = self._cache(_hiding(segments, hides, numbers), numbers)
                rows = [self._rows(chunk) for chunk in chunks]
                recorder.start(rows, cache)
                with Listening(self.backbone) as heard:
                    self.backbone.encode_rows(chunks, cache)
                recorder.stop()
                heard.measure_head()
                _drop_live_columns(recorder, layers)
                for row, number in enumerate(numbers):
                    padding = heard.final.shape[1] - len(rows[row])
                    said[number] = heard.final[row, padding + rows[row].select("predictions")]
        ordered = tuple(said[number] for number in range(len(said)))
        return ReadAgain(ordered, recorder.held)

    def _together(self, pads: bool) -> list[list[int]]:
        """Demonstrations by number, those of one length together: none needs padding, unless it
        `pads`."""
        lengths = [len(chunk) for chunk in self.demonstrations]
        by_length: dict[int, list[int]] = {}
        for number in sorted(range(len(lengths)), key=lengths.__getitem__):
            by_length.setdefault(0 if pads else lengths[number], []).append(number)
        times = 1 if self.backbone.device.type == "cpu" else _TIMES_ELSEWHERE
        return [
            same[first : first + step]
            for same in by_length.values()
            for most in [times * _TOKENS_AT_ONCE // max(1, lengths[same[-1]])]
            for step in [max(1, min(times * self.at_once, most))]
            for first in range(0, len(same), step)
        ]

    @torch.inference_mode()
    def log_probabilities(self, states: Tensor) -> Tensor:
        """Return (rows, vocabulary) float32 log-probabilities of final states (rows,
        hidden_size)."""
        head = self.backbone.head or Head()
        return head.logits(self.backbone.hf.get_output_embeddings()(states)).log_softmax(-1)

    @torch.inference_mode()
    def divergence(self, first: ReadAgain, second: ReadAgain) -> float:
        """Return the Jensen-Shannon divergence of next-token predictions in nats, a mean over
        rows."""
        ours, theirs = torch.cat(first.said), torch.cat(second.said)
        parts = [
            js_divergence(
                self.log_probabilities(ours[start : start + _ROWS_AT_ONCE]).exp(),
                self.log_probabilities(theirs[start : start + _ROWS_AT_ONCE]).exp(),
            )
            for start in range(0, ours.shape[0], _ROWS_AT_ONCE)
        ]
        return float(torch.cat(parts).mean()) if parts else 0.0

    def divergences(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """Return (demonstrations,) the same of each demonstration by itself, from what its answer
        is said by."""
        pairs = zip(first, second, strict=True)
        return torch.tensor([self.divergence(ReadAgain((a,)), ReadAgain((b,))) for a, b in pairs])

    def _segments(self, layers: Mapping[int, LayerTokens]) -> list[tuple[Segment, ...] | None]:
        return [
            (layers[number].segment(),) if number in layers else beside
            for number, beside in enumerate(self.beside)
        ]

    def _cache(
        self, segments: Sequence[tuple[Segment, ...] | None], numbers: Sequence[int] = ()
    ) -> MemoryCache:
        starts = [self.starts[number] for number in numbers] if self.starts else []
        return MemoryCache.from_segments(
            self.backbone.hf.config,
            segments,
            next_position=[one for one, _ in starts] or self.next_position,
            logical_length=[one for _, one in starts] or self.logical_length,
            states=self.states,
        )

    def _rows(self, chunk: Transcript) -> Rows:
        end = self.logical_length + len(chunk)
        return Rows.of(chunk, self.logical_length, end, self.chunk)


def _hiding(
    segments: Sequence[tuple[Segment, ...] | None], hides: Hides | None, numbers: Sequence[int]
) -> Sequence[tuple[Segment, ...] | None]:
    """The segments of a batch of `numbers`, every row without what is hidden from it."""
    changed = list(segments)
    for layer, unseen in hides(numbers) if hides is not None else ():
        segment = (segments[layer] or ())[0]
        bias = torch.zeros(1, 1, 1) if segment.bias is None else segment.bias
        changed[layer] = (
            replace(segment, bias=torch.where(unseen, UNUSED, bias.to(unseen.device))),
        )
    return changed


def _drop_live_columns(recorder: Recorder, layers: Mapping[int, LayerTokens]) -> None:
    """Of records with a column for every entry, keep those of the memory."""
    for number, held in recorder.held.items():
        entries = layers[number].keys.shape[1]
        heads, device = layers[number].kv_heads, layers[number].keys.device
        order = torch.arange(entries, device=device).expand(heads, -1)
        for record in [record for record in held if record.has_columns]:
            held[record] = record.keep(held[record], order)


def alone(transcript: Transcript, number: int) -> Transcript:
    """Return one demonstration without the head of the conversation."""
    return without_head(transcript.chunk(number, number + 1))


def without_head(chunk: Transcript) -> Transcript:
    """Return a chunk from its first demonstration on, without the head of the conversation."""
    start = chunk.spans[0][0]
    if start == 0:
        return chunk
    return replace(
        chunk,
        input_ids=chunk.input_ids[start:],
        roles=chunk.roles[start:],
        demonstration=chunk.demonstration[start:],
        place=chunk.place[start:],
        spans=tuple((begin - start, end - start) for begin, end in chunk.spans),
        images=chunk.images if len(chunk.images) else NO_IMAGES,
    )
