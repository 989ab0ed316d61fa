"""Reading demonstrations each by itself, so that they can come and go.

Each is read after the system prompt and the few demonstrations that all are shown (`base`), never
after the others, and is compressed by itself. What is kept of it depends on nothing but itself, the
base and the recipe. The first demonstration is kept whole; those that are shown with it see those
before them. What is lost without them, docs/changing-a-memory.md says.

Knows transcripts and compressors; how shards are put together is `tasm.memory.shards`' business.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.admission import transcript_digest
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.segment import Segment
from tasm.backbone.decoder import attention_modules
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.calibrate import gate_queries, taught
from tasm.compress.compressor import Compressor, Newest
from tasm.compress.prefill import Compressed, Progress
from tasm.compress.records.queries import Kept
from tasm.compress.records.recorder import Recorder
from tasm.compress.repeating import repeated
from tasm.compress.replay import Replay, alone
from tasm.compress.settings import Notice, Settings
from tasm.compress.shards.share import Share
from tasm.compress.sizes import parse_size
from tasm.errors import InputError
from tasm.memory import GateSettings
from tasm.memory.asked import KeptQueries
from tasm.memory.entry import DemonstrationEntry
from tasm.memory.per_head import packed, take
from tasm.memory.retrieval.gate import GateReference
from tasm.memory.shards import Layers, Shard, between, compose, joined_tables
from tasm.memory.tokens import TokenTable

Piece = tuple[int, str]
ASKED = gate_queries(1)
"""What is recorded of each demonstration for the gate."""

TRANSCRIPT = "transcript"
"""Where a report keeps the digests of the tokens that the memory stands for."""


@dataclass(frozen=True, eq=False)
class Base:
    """What every demonstration is read after: the head and a few demonstrations, as a memory keeps
    them; `head` is the head's part of the token table."""

    core: Layers
    next_position: int
    head: TokenTable

    @classmethod
    def none(cls, backbone: Backbone) -> "Base":
        """Nothing: what a first demonstration is read after."""
        return cls((None,) * backbone.geometry.layers, 0, TokenTable.empty())

    @classmethod
    def of(cls, shard: Shard, backbone: Backbone) -> "Base":
        """A shard with the head, as the model reads it."""
        head, table = int((shard.tokens.demonstration < 0).sum()), shard.tokens
        parts = (table.roles[:head], table.demonstration[:head], table.place[:head])
        core = tuple(
            None if one is None else one.to(backbone.device, backbone.dtype) for one in shard.core
        )
        return cls(core, shard.next_position, TokenTable.make(table.positions[:, :head], *parts))


@dataclass(eq=False)
class Reader:
    """Reads demonstrations one by one and compresses each.

    ```python
    reader = Reader(backbone, settings, share)
    first = reader.read(transcript, 0, entries[0], Base.none(backbone))
    second = reader.read(transcript, 1, entries[1], Base.of(first, backbone))
    ```
    """

    backbone: Backbone
    settings: Settings
    share: Share
    seconds: dict[str, float] = field(
        default_factory=lambda: {"encode": 0.0, "score": 0.0, "reduce": 0.0, "trial": 0.0}
    )

    def __post_init__(self) -> None:
        refuse_other_layers(self.backbone)

    def read(
        self, transcript: Transcript, number: int, entry: DemonstrationEntry, base: Base
    ) -> Shard:
        """Read one demonstration after `base`; after none of it, together with the head."""
        begins = all(one is None for one in base.core)
        chunk = _counted_alone(
            transcript.chunk(number, number + 1) if begins else alone(transcript, number)
        )
        own = len(chunk)
        head = int((chunk.demonstration < 0).sum()) if begins else len(base.head)
        before = 0 if begins else head
        started = time.perf_counter()
        share = Share(1.0, 0.0) if begins else self.share
        targets = share.targets(own - head if begins else own, head)
        compressor = Compressor(self.backbone, self.settings, targets, before + own)
        teaches = calibrates(self.settings)
        records = (*compressor.parts.records, *((ASKED,) if teaches else ()))
        with torch.no_grad(), Recorder(self.backbone, records) as recorder:
            cache = MemoryCache.from_segments(
                self.backbone.hf.config,
                [None if one is None else (one.segment(),) for one in base.core],
                next_position=base.next_position,
                logical_length=before,
            )
            recorder.read(chunk, cache, before, before + own)
            segments = list(cache.segments)
            positions, next_position = cache.positions[:, -own:], cache.next_position
            self._only_head(recorder, segments, base, before, own)
            tokens = _table(base.head if before else None, chunk, positions)
            tokens = tokens.to(self.backbone.device)
            replay = Replay(
                self.backbone,
                (alone(chunk, 0),),
                (None,) * len(segments),
                (None,) * len(segments),
                next_position,
                before + own,
                own,
                contexts=partial(repeated, self.backbone, chunk, range(1)),
            )
            self.seconds["encode"] += time.perf_counter() - started
            compressor.stage(segments, recorder, tokens, Newest(0, before + own), replay)
        for name, taken in compressor.seconds.items():
            self.seconds[name] += taken
        kept, banked = (
            [held.get(layer) for layer in range(self.backbone.geometry.layers)]
            for held in (compressor.core, compressor.bank)
        )
        end = before + own
        shift = -entry.spans[0][0] + (head if begins else 0)
        return Shard(
            core=tuple(between(one and one.settled(), before, end) for one in kept),
            bank=tuple(between(one and one.settled(), before, end) for one in banked),
            tokens=_table(None, chunk, positions),
            entries=(
                replace(
                    entry, spans=tuple((start + shift, end + shift) for start, end in entry.spans)
                ),
            ),
            asked=self._asked(recorder, before) if teaches else None,
        )

    def _asked(self, recorder: Recorder, before: int) -> KeptQueries:
        """The queries that said the answer, tokens counted from the demonstration's own."""
        found = {layer: held[ASKED] for layer, held in recorder.held.items() if ASKED in held}
        queries = [
            found[layer].queries.to("cpu", torch.float16) if layer in found else None
            for layer in range(self.backbone.geometry.layers)
        ]
        index = next(iter(found.values())).index - before
        return KeptQueries(index.to("cpu", torch.int32), tuple(queries))

    def _only_head(
        self,
        recorder: Recorder,
        segments: list[tuple[Segment, ...] | None],
        base: Base,
        head: int,
        own: int,
    ) -> None:
        """Leave of every layer, and of what was recorded, the head and the new tokens."""
        for layer, (read, before) in enumerate(zip(segments, base.core, strict=True)):
            if before is None:
                continue
            assert read is not None
            keys = torch.cat([one.keys[0] for one in read], 1)
            values = torch.cat([one.values[0] for one in read], 1)
            wanted = torch.ones(keys.shape[:2], dtype=torch.bool, device=keys.device)
            wanted[:, : before.keys.shape[1]] = before.index < head
            if before.padding is not None:
                wanted[:, : before.keys.shape[1]] &= ~before.padding
            order = packed(wanted, head + own)
            segments[layer] = (Segment(take(keys, order)[None], take(values, order)[None]),)
            held = recorder.held[layer]
            for record in held:
                held[record] = record.keep(held[record], order)


def read_independently(
    reader: Reader,
    transcript: Transcript,
    entries: Sequence[DemonstrationEntry],
    progress: Progress,
) -> Compressed:
    """Read all demonstrations of a build, the first with the head; those shown are the base."""
    total, backbone = len(entries), reader.backbone
    shards: list[Shard] = []
    base = Base.none(backbone)
    for number, entry in enumerate(entries):
        progress("encode", number, total)
        shards.append(reader.read(transcript, number, entry, base))
        if number < reader.settings.shown:
            base = Base.of(compose(shards, backbone.rotary), backbone)
    progress("encode", total, total)
    return compressed_of(compose(shards, backbone.rotary), reader.seconds)


def compressed_of(whole: Shard, seconds: dict[str, float]) -> Compressed:
    """Return a shard as what a build keeps; layers hold no state."""
    return Compressed(
        core=list(whole.core),
        bank=list(whole.bank),
        tokens=whole.tokens,
        states=[None] * len(whole.core),
        next_position=whole.next_position,
        notes={},
        seconds=seconds,
        asked=whole.asked,
    )


def what_is_known(transcript: Transcript, share: Share, shown: int) -> dict[str, Any]:
    """What a memory's report keeps so that it can grow and shrink later."""
    pieces = [list(piece) for piece in transcript_pieces(transcript)]
    bases = [min(number, shown) - 1 for number in range(len(transcript.spans))]
    return {TRANSCRIPT: pieces, "bases": bases, "share": [share.core, share.bank]}


def calibrates(settings: Settings) -> bool:
    """Whether a build teaches its gate."""
    return settings.gate.is_calibrated and parse_size(settings.bank, "bank").amount > 0


def taught_gate(
    backbone: Backbone, kept: Compressed, spans: Sequence[tuple[int, int]], settings: Settings
) -> GateReference | None:
    """What the gate learns of the queries that were kept; None where there are none."""
    asked = kept.asked
    if asked is None or not calibrates(settings):
        return None
    modules, size = attention_modules(backbone.decoder), backbone.geometry.head_dim
    held: dict[int, Kept] = {}
    for layer, queries in enumerate(asked.layers):
        core = kept.core[layer]
        if queries is not None and core is not None:
            index, device = asked.index.long(), core.keys.device
            whose = kept.tokens.demonstration[index].to(device)
            held[layer] = Kept(queries.to(device).float(), index.to(device), whose)
    scalings = {layer: float(getattr(modules[layer], "scaling", size**-0.5)) for layer in held}
    rotary = backbone.rotary
    return taught(kept, held, scalings, spans, rotary, settings.gate.kind, settings.quantile)


def open_gate(gate: GateSettings, notice: Notice) -> GateSettings:
    """The gate of a memory that changes and has not kept what it compares with."""
    if not gate.compares:
        return gate
    notice(
        f"The gate {gate.kind!r} compares with what the demonstrations looked at together, and the "
        "queries that tell it were not kept: it retrieves at every step (gate always)."
    )
    return replace(gate, kind="always")


def transcript_pieces(transcript: Transcript) -> list[Piece]:
    """Tokens and digest of the head and of every demonstration: how a prompt that begins with all
    of them is known."""
    edges = [(0, transcript.spans[0][0]), *transcript.spans]
    return [
        (stop - start, transcript_digest(transcript.input_ids[start:stop])) for start, stop in edges
    ]


def refuse_other_layers(backbone: Backbone) -> None:
    """Raise InputError for a model with layers that keep a window or a state: those cannot be taken
    apart."""
    others = sorted(set(backbone.geometry.layer_kinds) - {"full"})
    if others:
        raise InputError(
            f"{backbone.name} has layers with {' and '.join(others)} attention, whose memory "
            "cannot be taken apart by demonstrations. Build in mode joint or streaming."
        )


def _counted_alone(chunk: Transcript) -> Transcript:
    """One demonstration as if there were no other: number 0, its images and answer from 0 on."""
    place = chunk.place.clone()
    seen = place[:, 0] >= 0
    place[seen, 0] -= chunk.first_image
    return replace(
        chunk,
        demonstration=chunk.demonstration.clamp(max=0),
        place=place,
        answer_numbers=torch.zeros(1, dtype=torch.int64),
        first_image=0,
    )


def _table(head: TokenTable | None, chunk: Transcript, positions: Tensor) -> TokenTable:
    """The head's rows and a demonstration's."""
    own = TokenTable.make(positions, chunk.roles, chunk.demonstration, chunk.place)
    return own if head is None else joined_tables([head, own])
