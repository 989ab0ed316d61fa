"""Reading demonstrations with the model, chunk by chunk, while a recorder listens.

All are read into one growing cache, which is compressed once; a build that compresses after every
chunk is `streaming`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.segment import Segment, join
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.chunks import chunk_edges
from tasm.compress.compressor import Compressor, Newest
from tasm.compress.records.recorder import Recorder
from tasm.compress.repeating import repeated
from tasm.compress.replay import Replay, alone
from tasm.memory.asked import KeptQueries
from tasm.memory.layer import LayerTokens
from tasm.memory.tokens import TokenTable

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Compressed:
    """What a build keeps of the demonstrations, by layer: `core` (None for a recurrent layer),
    `bank`, and the `states` of recurrent layers.

    `tokens` is the transcript's table on the model's device; `notes` is what parts found,
    `seconds` what encoding, scoring and reducing took; `asked` are queries that the memory keeps.
    """

    core: list[LayerTokens | None]
    bank: list[LayerTokens | None]
    tokens: TokenTable
    states: list[dict[str, Tensor] | None]
    next_position: int
    notes: dict[str, Any]
    seconds: dict[str, float]
    asked: KeptQueries | None = None


@dataclass(frozen=True, eq=False)
class Read:
    """Demonstrations as they were read, before anything leaves: segments by layer, which a
    compressor empties, recurrent `states`, and what reads them again."""

    segments: list[tuple[Segment, ...] | None]
    tokens: TokenTable
    states: list[dict[str, Tensor] | None]
    next_position: int
    replay: Replay
    seconds: float

    def cache(self) -> MemoryCache:
        """Return a cache over everything."""
        return MemoryCache.from_segments(
            self.replay.backbone.hf.config,
            tuple(self.segments),
            next_position=self.next_position,
            logical_length=len(self.tokens),
            states=self.states,
        )

    def compressed(self, compressor: Compressor, recorder: Recorder) -> Compressed:
        """Return what a compressor keeps."""
        newest = Newest(0, len(self.tokens))
        compressor.stage(self.segments, recorder, self.tokens, newest, self.replay)
        return collected(
            compressor, self.segments, self.tokens, self.states, self.next_position, self.seconds
        )


def read(
    backbone: Backbone,
    transcript: Transcript,
    chunk_tokens: int,
    recorder: Recorder,
    progress: Progress,
) -> Read:
    """Read all demonstrations while a recorder listens.

    ```python
    with torch.no_grad(), Recorder(backbone, compressor.parts.records) as recorder:
        kept = read(backbone, transcript, 2048, recorder, unheard).compressed(compressor, recorder)
    ```
    """
    edges = chunk_edges(transcript.spans, chunk_tokens)
    cache = MemoryCache.empty(backbone.hf.config, room=len(transcript))
    tables: list[Tensor] = []
    seconds, first = 0.0, 0
    for number, (begin, stop) in enumerate(edges):
        progress("encode", number, len(edges))
        started = time.perf_counter()
        chunk = transcript.chunk(begin, stop)
        recorder.read(chunk, cache, first, len(transcript))
        # A copy: a view would hold the positions of everything read so far.
        tables.append(cache.positions[:, -len(chunk) :].clone())
        seconds += time.perf_counter() - started
        first += len(chunk)
    progress("encode", len(edges), len(edges))
    segments, kinds = list(cache.segments), backbone.geometry.layer_kinds
    numbers = range(len(transcript.spans))
    replay = Replay(
        backbone,
        tuple(alone(transcript, number) for number in numbers),
        tuple(None if kind == "full" else one for kind, one in zip(kinds, segments, strict=True)),
        cache.states,
        cache.next_position,
        len(transcript),
        len(transcript),
        contexts=partial(repeated, backbone, transcript, numbers, chunk_tokens),
    )
    tokens = TokenTable.make(
        torch.cat(tables, 1), transcript.roles, transcript.demonstration, transcript.place
    ).to(backbone.device)
    return Read(segments, tokens, cache.states, cache.next_position, replay, seconds)


def collected(
    compressor: Compressor,
    segments: Sequence[Sequence[Segment] | None],
    tokens: TokenTable,
    states: list[dict[str, Tensor] | None],
    next_position: int,
    encode_seconds: float,
) -> Compressed:
    """Return what a compressor kept, with the windows of the layers that do not compete."""
    banked = {layer: found.settled() for layer, found in compressor.bank.items()}
    windows = [
        None if layer in compressor.core else window(read or ())
        for layer, read in enumerate(segments)
    ]
    return Compressed(
        core=[
            compressor.core[layer].settled() if layer in compressor.core else window
            for layer, window in enumerate(windows)
        ],
        bank=[
            banked[layer] if layer in banked and max(banked[layer].counts) else None
            for layer in range(len(windows))
        ],
        tokens=tokens,
        states=states,
        next_position=next_position,
        notes=compressor.notes,
        seconds={"encode": encode_seconds, **compressor.seconds},
    )


def window(segments: Sequence[Segment]) -> LayerTokens | None:
    """Return a sliding layer's last tokens as one, in tensors of their own."""
    if not segments:
        return None
    whole = join(segments)
    heads = whole.keys.shape[1]
    assert whole.index is not None
    index = whole.index.reshape(-1, whole.tokens).expand(heads, -1).to(torch.int32)
    return LayerTokens(whole.keys[0].clone(), whole.values[0].clone(), index.contiguous())
