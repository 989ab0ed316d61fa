"""A task memory of demonstrations that come one at a time, or of a transcript chunk by chunk."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch

from tasm.backbone.model import Backbone
from tasm.compress.assembling import memory_of, report_of, taken_parts
from tasm.compress.calibrate import gate_queries
from tasm.compress.compressor import Compressor
from tasm.compress.peak import PeakMemory
from tasm.compress.prefill import Progress
from tasm.compress.records.recorder import Recorder
from tasm.compress.settings import Notice, Settings, Targets, costs_for, targets_at
from tasm.compress.shards.independent import TRANSCRIPT
from tasm.compress.sizes import parse_size
from tasm.compress.streams.arriving import Chunk, Done
from tasm.compress.streams.budgets import budget_of
from tasm.compress.streams.streaming import Stream
from tasm.compress.streams.unfinished import Unfinished
from tasm.demonstrations import warn_of_unlike_pictures
from tasm.memory import TaskMemory


def build_streamed(
    backbone: Backbone,
    chunks: Callable[[Done], Iterator[Chunk]],
    settings: Settings,
    progress: Progress,
    notice: Notice,
    peak: PeakMemory,
    started: float,
    *,
    tokens: int | None = None,
    demonstrations: int = 0,
    unfinished: Unfinished | None = None,
) -> TaskMemory:
    """Build a memory of the chunks that come after what is done.

    `tokens` and `demonstrations` are how many come, None and 0 where nobody knows. With
    `unfinished` the state is written now and then, and a build goes on from it.
    """
    asked = gate_queries(None)
    teaches = settings.gate.is_calibrated and parse_size(settings.bank, "bank").amount > 0
    compressor = Compressor(backbone, settings, Targets(0, 0, 0, 0, 0), tokens or 0)
    records = (*compressor.parts.records, *((asked,) if teaches else ()))
    holding = nullcontext() if unfinished is None else unfinished.held()
    with holding, torch.no_grad(), Recorder(backbone, records) as recorder:
        stream = Stream(
            backbone, compressor, recorder, budget_of(settings, backbone, tokens), tokens
        )
        if unfinished is not None and unfinished.restore(stream, settings):
            notice(f"Going on after {len(stream.entries):,} demonstrations ({unfinished.folder}).")
        progress("encode", len(stream.entries), demonstrations)
        for chunk in chunks(stream.done):
            if not stream.entries:
                warn_of_unlike_pictures(backbone.name, chunk.demonstrations, notice)
            stream.read(chunk)
            progress("encode", len(stream.entries), demonstrations)
            if unfinished is not None:
                unfinished.note(stream, settings)
        kept, numbers = stream.compressed(), stream.numbers
        costs = costs_for(settings, backbone, numbers.tokens, numbers.head)
        memory = memory_of(
            backbone,
            numbers.layout,
            stream.entries,
            settings,
            targets_at(settings, costs, notice),
            kept,
            recorder if teaches else None,
            asked,
        )
    if compressor.notes.get("taken", "its own") != "its own":
        notice(taken_parts(compressor))
    if numbers.packed:
        notice(
            f"The demonstrations take {numbers.taken:,} positions, and the model was trained for "
            f"{backbone.geometry.max_positions:,}: what is kept was packed closer "
            f"{numbers.packed} times and ends at position {memory.next_position:,}."
        )
    known = {TRANSCRIPT: [list(piece) for piece in numbers.pieces]}
    memory.report.update(report_of(memory, settings, kept, peak, started) | known)
    return memory
