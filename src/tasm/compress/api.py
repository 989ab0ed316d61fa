"""`tasm.build(...)`: demonstrations in, a task memory out."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from tasm.arguments import listener, unheard
from tasm.backbone.attention.admission import transcript_digest
from tasm.backbone.given import as_backbone
from tasm.backbone.limits import check_transcript
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.assembling import assembled, calibrates, report_of, taken_parts
from tasm.compress.calibrate import gate_queries
from tasm.compress.compressor import Compressor
from tasm.compress.entries import entries_of
from tasm.compress.given import are_read, as_demonstrations
from tasm.compress.peak import PeakMemory
from tasm.compress.polish.polishing import check_polishing, polished
from tasm.compress.prefill import Progress, read
from tasm.compress.recipes.recipe import Recipe
from tasm.compress.recipes.table import DEFAULT_RECIPE
from tasm.compress.records.recorder import Recorder
from tasm.compress.settings import Settings, targets, warn
from tasm.compress.shards.independent import (
    TRANSCRIPT,
    Reader,
    read_independently,
    what_is_known,
)
from tasm.compress.shards.share import Share
from tasm.compress.streams.arriving import arriving_chunks
from tasm.compress.streams.budgets import count_tokens, is_about_tokens
from tasm.compress.streams.streamed import build_streamed
from tasm.compress.streams.unfinished import Unfinished
from tasm.demonstrations import (
    Demonstration,
    stream_demonstrations,
    warn_of_unlike_pictures,
)
from tasm.errors import InputError
from tasm.memory import TaskMemory


def build(
    model: Any,
    demonstrations: Any,
    *,
    recipe: str | Recipe = DEFAULT_RECIPE,
    core: str | float | None = None,
    bank: str | float | None = None,
    mode: Literal["joint", "streaming", "independent"] = "joint",
    chunk_tokens: int | None = None,
    question: str | None = None,
    system: str | None = None,
    max_pixels: int | None = None,
    store: str | torch.dtype | None = None,
    skip_bad_rows: bool = False,
    seed: int = 0,
    shown: int = 1,
    polish: int = 0,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = warn,
) -> TaskMemory:
    """Build a task memory of a frozen model from demonstrations.

    ```python
    memory = tasm.build(model, "birds.jsonl", core="20%")
    memory.save("birds.tasm")
    ```

    Args:
        model: what `tasm.load_model` or `tasm.wrap` return, or a model's name or folder.
        demonstrations: a file or folder, rows in Python (a list of dicts, a generator, a
            DataFrame, a `datasets` Dataset), or `Demonstration`s.
        recipe: a name (`tasm.recipes()`) or a `Recipe`; the default, `compact`, is what is best at
            equal bytes.
        core: "20%" (or 0.2) of the tokens, 512 tokens per layer and KV head, or "64MB"; None or
            "auto" for the recipe's own. The system prompt is always kept, and counts.
        bank: the same, for originals outside the core; "0" for none.
        mode: "joint": every demonstration sees all before it. "streaming": chunk after chunk
            against what was kept of those before; memory bounded by a chunk and the budget, of a
            file or a generator of any length.
            "independent": each by itself after the first one, so that demonstrations can be added,
            removed and merged later.
        chunk_tokens: tokens read at a time; chunks end between demonstrations.
        question: the question of rows that have none, such as pictures in one folder a class.
        system: a system prompt.
        max_pixels: the largest image area in pixels.
        store: "float32", "float16" or "bfloat16", or torch's own; "int8" or "int4", packed (see
            `TaskMemory.packed`); None for what the model runs in.
        skip_bad_rows: leave out rows that cannot be read; `notice` lists them.
        seed: for recipes that draw at random.
        shown: of an independent build, how many of the first demonstrations all others are read
            after; these cannot be removed while others stay.
        polish: gradient steps on what is kept, the model frozen, towards what all demonstrations
            say of questions made of them; 0 for none. What is not surely better on questions left
            out is not kept.
        checkpoint: a folder for the state of a streaming build, written once a minute or so. Where
            a build ended there before its time, this one goes on; it is gone when all is read.
        progress: called with a stage's name, steps done and steps in all.
        notice: called with sentences the user should see, such as a bank that was cut.

    Raises:
        InputError: of the demonstrations, the recipe, a budget that is impossible, a mode there
            is not, more positions than the model was trained for.
    """
    settings = Settings.of(
        recipe=recipe,
        core=core,
        bank=bank,
        mode=mode,
        chunk_tokens=chunk_tokens,
        system=system,
        max_pixels=max_pixels,
        store=store,
        seed=seed,
        shown=shown,
        polish=polish,
    )
    listener(progress, "progress")
    listener(notice, "notice")
    if settings.mode == "streaming":
        unfinished = None if checkpoint is None else Unfinished(Path(checkpoint))
        memory = build_arriving(
            model,
            demonstrations,
            settings,
            question=question,
            skip_bad_rows=skip_bad_rows,
            progress=progress or unheard,
            notice=notice or unheard,
            unfinished=unfinished,
        )
        if unfinished is not None:
            unfinished.remove()
        return memory
    if checkpoint is not None:
        raise InputError(
            f"checkpoint={str(checkpoint)!r} has no effect in mode {settings.mode}: only a "
            "streaming build goes on where it ended. Leave it out."
        )
    rows = as_demonstrations(
        demonstrations, question=question, skip_bad_rows=skip_bad_rows, notice=notice
    )
    backbone = as_backbone(model)
    started = time.perf_counter()
    peak = PeakMemory(backbone.device)
    transcript = backbone.transcript(rows, system=settings.system, max_pixels=settings.max_pixels)
    return build_transcript(
        backbone, transcript, rows, settings, progress or unheard, notice or unheard, peak, started
    )


def build_arriving(
    model: Any,
    demonstrations: Any,
    settings: Settings,
    *,
    question: str | None,
    skip_bad_rows: bool,
    progress: Progress,
    notice: Callable[[str], None],
    unfinished: Unfinished | None,
) -> TaskMemory:
    """Build a streaming memory of demonstrations that are read as they are needed.

    What can be read again is looked at first, so that a bad row is known before anything is built.
    The unfinished build's folder stays, for the caller to remove once the memory is safe.
    """
    again: Callable[[], Iterable[Demonstration]] | None = None
    if are_read(demonstrations):
        again = partial(iter, as_demonstrations(demonstrations))
        rows = again
    else:
        arrive = partial(
            stream_demonstrations, demonstrations, question=question, skip_bad_rows=skip_bad_rows
        )
        rows = partial(arrive, warn=notice)
        if not isinstance(demonstrations, Iterator):
            again = partial(arrive, warn=notice, progress=progress, most_bad=None)
            rows = partial(arrive, warn=unheard)
    backbone = as_backbone(model)
    started = time.perf_counter()
    peak = PeakMemory(backbone.device)
    tokens, count = None, 0
    if again is None and not is_about_tokens(settings):
        notice(
            "How many demonstrations come is not known: budgets in per cent or bytes are meant of "
            "what has come so far."
        )
    elif again is not None:
        found = again()
        if is_about_tokens(settings):
            count = sum(1 for _ in found)
        else:
            tokens, count = count_tokens(arriving_chunks(backbone, found, settings), progress)
    return build_streamed(
        backbone,
        lambda done: arriving_chunks(backbone, rows(), settings, done),
        settings,
        progress,
        notice,
        peak,
        started,
        tokens=tokens,
        demonstrations=count,
        unfinished=unfinished,
    )


def build_transcript(
    backbone: Backbone,
    transcript: Transcript,
    demonstrations: Sequence[Demonstration],
    settings: Settings,
    progress: Progress,
    notice: Callable[[str], None],
    peak: PeakMemory,
    started: float,
) -> TaskMemory:
    """Build a memory of demonstrations already laid out as tokens, in mode joint or independent."""
    check_transcript(transcript, backbone.geometry)
    warn_of_unlike_pictures(backbone.name, demonstrations, notice)
    budget = targets(settings, backbone, transcript, notice)
    if settings.polish:
        check_polishing(backbone, demonstrations)
    if settings.mode == "independent":
        share = Share.of(settings, budget, transcript)
        entries = entries_of(demonstrations, transcript)
        kept = read_independently(Reader(backbone, settings, share), transcript, entries, progress)
        memory = assembled(backbone, transcript, demonstrations, settings, budget, kept, None)
        known = what_is_known(transcript, share, settings.shown)
    else:
        compressor = Compressor(backbone, settings, budget, len(transcript))
        asked = (gate_queries(len(transcript.spans)),) if calibrates(settings, budget) else ()
        with torch.no_grad(), Recorder(backbone, (*compressor.parts.records, *asked)) as recorder:
            found = read(backbone, transcript, settings.chunk_tokens, recorder, progress)
            full = found.cache() if settings.polish else None
            kept = found.compressed(compressor, recorder)
            if full is not None:
                kept = polished(
                    backbone,
                    full,
                    transcript,
                    demonstrations,
                    kept,
                    steps=settings.polish,
                    seed=settings.seed,
                    progress=progress,
                )
            memory = assembled(
                backbone, transcript, demonstrations, settings, budget, kept, recorder
            )
        if compressor.notes.get("taken", "its own") != "its own":
            notice(taken_parts(compressor))
        known = {TRANSCRIPT: transcript_digest(transcript.input_ids)}
    memory.report.update(report_of(memory, settings, kept, peak, started) | known)
    return memory
