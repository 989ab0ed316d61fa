"""Streaming builds: chunk after chunk against what was kept, in memory bounded by a chunk and the
budget.

Beside these a stream holds what the manifest needs of every demonstration: its entry, and its
tokens' rows of the table. Where the positions reach the model's trained length, what is kept is
packed closer. Knows chunks; not where demonstrations come from, nor files.
"""

import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from tasm.backbone.attention.admission import transcript_digest
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.segment import Segment
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Layout
from tasm.compress.compressor import Compressor, Newest
from tasm.compress.entries import entries_of
from tasm.compress.prefill import Compressed, collected, window
from tasm.compress.records.recorder import Recorder
from tasm.compress.repeating import repeated
from tasm.compress.replay import Replay, alone
from tasm.compress.streams.arriving import NOTHING_READ, Chunk, Done
from tasm.compress.streams.budgets import Budget
from tasm.compress.streams.closer import FILLED, check_rotation, room_before, shifts_to_fit
from tasm.compress.streams.token_log import TokenLog
from tasm.memory.entry import DemonstrationEntry
from tasm.memory.layer import LayerTokens
from tasm.memory.shards import turned


@dataclass
class Read:
    """What a stream has read, in numbers: `head` and all `tokens`, `images`, the `digest` of its
    demonstrations, positions `taken` and how often they were `packed` closer; `pieces` are tokens
    and digest of every chunk."""

    head: int = 0
    tokens: int = 0
    images: int = 0
    digest: str = NOTHING_READ
    taken: int = 0
    packed: int = 0
    seconds: float = 0.0
    layout: Layout = field(default_factory=Layout)
    pieces: list[tuple[int, str]] = field(default_factory=list)


@dataclass(eq=False)
class Stream:
    """A build between two chunks.

    ```python
    stream = Stream(backbone, compressor, recorder, budget)
    for chunk in arriving_chunks(backbone, demonstrations, settings, stream.done):
        stream.read(chunk)
    stream.compressed()
    ```

    `total` are the tokens of the whole stream, None where nobody knows. `segments` are what each
    layer keeps, None for those of `states`.
    """

    backbone: Backbone
    compressor: Compressor
    recorder: Recorder
    budget: Budget
    total: int | None = None
    numbers: Read = field(default_factory=Read)
    entries: list[DemonstrationEntry] = field(default_factory=list)
    segments: list[tuple[Segment, ...] | None] | None = None
    states: list[dict[str, torch.Tensor] | None] | None = None
    next_position: int = 0

    def __post_init__(self) -> None:
        self.log = TokenLog(self.backbone.geometry.position_rows, self.backbone.device)

    @property
    def done(self) -> Done:
        """What was read."""
        return Done(len(self.entries), self.numbers.images, self.numbers.digest)

    def read(self, chunk: Chunk) -> None:
        """Read a chunk after what is kept, and compress both."""
        started, numbers, backbone = time.perf_counter(), self.numbers, self.backbone
        transcript = chunk.transcript
        self._make_room(chunk)
        if not self.entries:
            numbers.head = int((transcript.demonstration < 0).sum())
        first, numbers.tokens = numbers.tokens, numbers.tokens + len(transcript)
        cache = MemoryCache.from_segments(
            backbone.hf.config,
            self.segments,
            next_position=self.next_position,
            logical_length=first,
            states=self.states,
        )
        self.recorder.read(transcript, cache, first, numbers.tokens)
        self.log.append(transcript, cache.positions[:, -len(transcript) :])
        self.entries += [
            replace(one, spans=tuple((a + first, b + first) for a, b in one.spans))
            for one in entries_of(chunk.demonstrations, transcript)
        ]
        numbers.taken += cache.next_position - self.next_position
        self.next_position = cache.next_position
        numbers.images = transcript.first_image + len(transcript.images)
        numbers.digest, numbers.layout = chunk.digest, transcript.layout
        numbers.pieces.append((len(transcript), transcript_digest(transcript.input_ids)))
        numbers.seconds += time.perf_counter() - started
        self._compress(chunk, cache, Newest(first, numbers.tokens))

    def compressed(self) -> Compressed:
        """Return what is kept of all that was read."""
        assert self.segments is not None and self.states is not None
        self.compressor.notes.update(self._notes())
        return collected(
            self.compressor,
            self.segments,
            self.log.whole(),
            self.states,
            self.next_position,
            self.numbers.seconds,
        )

    def _notes(self) -> dict[str, Any]:
        if not self.numbers.packed:
            return {}
        return {"positions": {"taken": self.numbers.taken, "packed": self.numbers.packed}}

    def _compress(self, chunk: Chunk, cache: MemoryCache, newest: Newest) -> None:
        compressor, transcript = self.compressor, chunk.transcript
        compressor.targets = self.budget(self.numbers.tokens, self.numbers.head)
        compressor.total = self.total or self.numbers.tokens
        segments, states = list(cache.segments), cache.states
        # The cache must not hold on to keys that the compressor frees layer by layer.
        for layer in compressor.layers:
            cache.layers[layer].segments = ()
        del cache
        replay = Replay(
            self.backbone,
            tuple(alone(transcript, number) for number in range(len(transcript.spans))),
            tuple(
                None if layer in compressor.layers else one for layer, one in enumerate(segments)
            ),
            states,
            self.next_position,
            newest.stop,
            newest.stop - newest.first,
            contexts=partial(repeated, self.backbone, transcript, range(len(transcript.spans))),
        )
        self.segments = None
        compressor.stage(segments, self.recorder, self.log.table(), newest, replay)
        self.keep(segments, states)

    def keep(
        self,
        segments: list[tuple[Segment, ...] | None],
        states: list[dict[str, torch.Tensor] | None],
    ) -> None:
        """Go on from what the compressor keeps, and from the segments of the other layers."""
        for layer in self.compressor.layers:
            segments[layer] = (self.compressor.core[layer].segment(),)
        self.segments, self.states = segments, states

    # ------------------------------------------------------------------ positions

    def _make_room(self, chunk: Chunk) -> None:
        """Pack what is kept closer where the chunk would end beyond the model's trained length."""
        room = room_before(chunk.transcript, self.backbone)
        if room is None or self.next_position <= room or self.segments is None:
            return
        check_rotation(self.backbone)
        compressor, tokens, rotary = self.compressor, self.log.table(), self.backbone.rotary
        layers = range(self.backbone.geometry.layers)
        core = [compressor.core.get(layer) for layer in layers]
        bank = [compressor.bank.get(layer) for layer in layers]
        windows = [
            None if layer in compressor.core else window(self.segments[layer] or ())
            for layer in layers
        ]
        starts = torch.tensor([one.spans[0][0] for one in self.entries])
        held = [one for part in (core, bank, windows) for one in part if one is not None]
        by = shifts_to_fit(tokens, starts, held, int(FILLED * room))
        shifts = self.log.shifts(by)
        core, bank, windows = (
            list(turned(part, tokens.positions, shifts, rotary)) for part in (core, bank, windows)
        )
        compressor.core, compressor.bank = _numbered(core), _numbered(bank)
        segments: list[tuple[Segment, ...] | None] = [
            None if one is None else (_segment(one),) for one in windows
        ]
        self.log.move(by)
        self.next_position = int(tokens.positions.max()) + 1  # a view of what was moved
        self.numbers.packed += 1
        self.keep(segments, list(self.states or ()))


def _segment(window: LayerTokens) -> Segment:
    """A window as a cache holds it: one index for all heads."""
    return Segment(window.keys[None], window.values[None], index=window.index[:1].long())


def _numbered(layers: list[LayerTokens | None]) -> dict[int, LayerTokens]:
    return {layer: one for layer, one in enumerate(layers) if one is not None}
