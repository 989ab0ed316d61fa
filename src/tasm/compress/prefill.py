"""Reading demonstrations with the model, chunk by chunk, while a recorder listens.

All are read into one growing cache, which is compressed once; a build that compresses after every
chunk is `streaming`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    `seconds` what encoding, scoring and reducing took; `asked` are queries that the memory keeps;
    `full` is everything that was read, where it is wanted once more.
    """

    core: list[LayerTokens | None]
    bank: list[LayerTokens | None]
    tokens: TokenTable
    states: list[dict[str, Tensor] | None]
    next_position: int
    notes: dict[str, Any]
    seconds: dict[str, float]
    asked: KeptQueries | None = None
    full: MemoryCache | None = None


def read(
    backbone: Backbone,
    transcript: Transcript,
    compressor: Compressor,
    recorder: Recorder,
    progress: Progress,
) -> Compressed:
    """Read all demonstrations and compress them."""
    edges = chunk_edges(transcript.spans, compressor.settings.chunk_tokens)
    cache = MemoryCache.empty(backbone.hf.config, room=len(transcript))
    tables: list[Tensor] = []
    seconds, first = 0.0, 0
    for number, (begin, stop) in enumerate(edges):
        progress("encode", number, len(edges))
        started = time.perf_counter()
        chunk = transcript.chunk(begin, stop)
        end = first + len(chunk)
        recorder.read(chunk, cache, first, len(transcript))
        # A copy: a view would hold the positions of everything read so far.
        tables.append(cache.positions[:, -len(chunk) :].clone())
        seconds += time.perf_counter() - started
        first = end
    full = cache.fork() if compressor.settings.polish else None
    cache = _compressed(backbone, transcript, compressor, recorder, cache, tables)
    progress("encode", len(edges), len(edges))
    kept = collected(
        compressor,
        cache.segments,
        token_table(transcript, tables, len(transcript), backbone.device),
        cache.states,
        cache.next_position,
        seconds,
    )
    return replace(kept, full=full)


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


def _compressed(
    backbone: Backbone,
    transcript: Transcript,
    compressor: Compressor,
    recorder: Recorder,
    cache: MemoryCache,
    tables: list[Tensor],
) -> MemoryCache:
    """Compress what the cache holds; returns a cache over what is left."""
    segments, states = list(cache.segments), cache.states
    next_position, logical_length = cache.next_position, cache.logical_length
    # The cache must not hold on to keys that the compressor frees layer by layer.
    for layer in compressor.layers:
        cache.layers[layer].segments = ()
    del cache
    tokens = token_table(transcript, tables, len(transcript), backbone.device)
    replay = Replay(
        backbone,
        tuple(alone(transcript, number) for number in range(len(transcript.spans))),
        tuple(None if layer in compressor.layers else one for layer, one in enumerate(segments)),
        states,
        next_position,
        logical_length,
        len(transcript),
        contexts=partial(
            repeated,
            backbone,
            transcript,
            range(len(transcript.spans)),
            compressor.settings.chunk_tokens,
        ),
    )
    compressor.stage(segments, recorder, tokens, Newest(0, len(transcript)), replay)
    for layer in compressor.layers:
        segments[layer] = (compressor.core[layer].segment(),)
    return MemoryCache.from_segments(
        backbone.hf.config,
        segments,
        next_position=next_position,
        logical_length=logical_length,
        states=states,
    )


def token_table(
    transcript: Transcript, tables: list[Tensor], stop: int, device: torch.device
) -> TokenTable:
    """Return the table of the first `stop` tokens, their positions chunk by chunk in `tables`."""
    return TokenTable.make(
        positions=torch.cat(tables, 1),
        roles=transcript.roles[:stop],
        demonstration=transcript.demonstration[:stop],
        place=transcript.place[:stop],
    ).to(device)
