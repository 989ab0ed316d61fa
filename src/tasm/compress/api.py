"""`tasm.build(...)`: demonstrations in, a task memory out."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch

from tasm.arguments import flag, listener, path, text, unheard
from tasm.backbone.attention.admission import transcript_digest
from tasm.backbone.given import as_backbone
from tasm.backbone.limits import check_transcript
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.calibrate import calibrate, gate_queries
from tasm.compress.compressor import Compressor
from tasm.compress.entries import entries_of
from tasm.compress.independent import (
    TRANSCRIPT,
    Reader,
    open_gate,
    read_independently,
    what_is_known,
)
from tasm.compress.peak import PeakMemory
from tasm.compress.prefill import Compressed, Progress, read
from tasm.compress.recipes.recipe import Recipe
from tasm.compress.recipes.table import DEFAULT_RECIPE
from tasm.compress.records.recorder import Recorder
from tasm.compress.settings import Settings, Targets, targets, warn
from tasm.compress.share import Share
from tasm.demonstrations import Demonstration, read_demonstrations, warn_of_unlike_pictures
from tasm.errors import InputError
from tasm.memory import Bank, TaskMemory

_STREAMED_IMAGE_BYTES = 1 << 25


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
            against what was kept of those before; memory bounded by a chunk and the budget.
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
    )
    listener(progress, "progress")
    listener(notice, "notice")
    rows = as_demonstrations(
        demonstrations, question=question, skip_bad_rows=skip_bad_rows, notice=notice
    )
    backbone = as_backbone(model)
    started = time.perf_counter()
    peak = PeakMemory(backbone.device)
    transcript = lay_out(backbone, rows, settings)
    return build_transcript(
        backbone, transcript, rows, settings, progress or unheard, notice or unheard, peak, started
    )


def lay_out(
    backbone: Backbone, demonstrations: Sequence[Demonstration], settings: Settings
) -> Transcript:
    """Return the demonstrations as tokens; a streaming build does not hold all images' tensors."""
    limit = {"kept_bytes": _STREAMED_IMAGE_BYTES} if settings.mode == "streaming" else {}
    return backbone.transcript(
        demonstrations, system=settings.system, max_pixels=settings.max_pixels, **limit
    )


def as_demonstrations(
    demonstrations: Any,
    *,
    question: str | None = None,
    skip_bad_rows: bool = False,
    notice: Callable[[str], None] | None = warn,
) -> list[Demonstration]:
    """Return demonstrations of whatever `build` takes; those that are read already stay as they
    are."""
    if question is not None:
        text(question, "question")
    flag(skip_bad_rows, "skip_bad_rows")
    if demonstrations is None:
        raise InputError(
            "demonstrations is None; expected a file, a folder, rows in Python or Demonstrations."
        )
    if isinstance(demonstrations, Demonstration):
        return [demonstrations]
    if isinstance(demonstrations, str | os.PathLike):
        demonstrations = path(demonstrations, "demonstrations", "a file or folder of them")
    elif isinstance(demonstrations, list | tuple | Iterator):
        demonstrations = list(demonstrations)  # an iterator gives its rows once only
        if demonstrations and all(isinstance(row, Demonstration) for row in demonstrations):
            return demonstrations
    return list(
        read_demonstrations(
            demonstrations,
            question=question,
            skip_bad_rows=skip_bad_rows,
            warn=notice or unheard,
        )
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
    """Build a memory of demonstrations already laid out as tokens."""
    check_transcript(transcript, backbone.geometry)
    warn_of_unlike_pictures(backbone.name, demonstrations, notice)
    budget = targets(settings, backbone, transcript, notice)
    if settings.mode == "independent":
        share = Share.of(settings, budget, transcript)
        entries = entries_of(demonstrations, transcript)
        kept = read_independently(Reader(backbone, settings, share), transcript, entries, progress)
        memory = assembled(backbone, transcript, demonstrations, settings, budget, kept, None)
        if memory.bank is not None:
            memory = memory.replaced(gate=open_gate(memory.gate, notice))
        known = what_is_known(transcript, share)
    else:
        compressor = Compressor(backbone, settings, budget, len(transcript))
        asked = (gate_queries(len(transcript.spans)),) if calibrates(settings, budget) else ()
        with torch.no_grad(), Recorder(backbone, (*compressor.parts.records, *asked)) as recorder:
            kept = read(backbone, transcript, compressor, recorder, progress)
            memory = assembled(
                backbone, transcript, demonstrations, settings, budget, kept, recorder
            )
        if compressor.notes.get("taken", "its own") != "its own":
            notice(_taken(compressor))
        known = {TRANSCRIPT: transcript_digest(transcript.input_ids)}
    memory.report.update(_report(memory, settings, kept, peak, started) | known)
    return memory


def calibrates(settings: Settings, budget: Targets) -> bool:
    """Return whether a build teaches its gate, which takes what `gate_queries` records."""
    return budget.bank > 0 and settings.gate.is_calibrated


def assembled(
    backbone: Backbone,
    transcript: Transcript,
    demonstrations: Sequence[Demonstration],
    settings: Settings,
    budget: Targets,
    kept: Compressed,
    recorder: Recorder | None,
) -> TaskMemory:
    """Return the memory of what was kept, its gate taught by what `recorder` heard; nothing is said
    yet of how it was built (`memory.report`)."""
    reference = None
    if recorder is not None and calibrates(settings, budget):
        rotary = backbone.rotary.for_length(len(transcript))
        reference = calibrate(kept, recorder, transcript.spans, rotary, settings.quantile)
    bank = Bank(kept.bank) if any(layer is not None for layer in kept.bank) else None
    memory = TaskMemory(
        core=kept.core,
        bank=bank,
        tokens=kept.tokens.to("cpu"),
        gate=settings.gate if bank is not None else None,
        reference=reference,
        states=None if all(state is None for state in kept.states) else kept.states,
        next_position=kept.next_position,
        logical_length=len(transcript),
        full_bytes=_full_bytes(budget, settings, backbone),
        geometry=backbone.geometry,
        identity=backbone.identity,
        layout=transcript.layout,
        recipe=settings.to_json() | ({"notes": kept.notes} if kept.notes else {}),
        model_name=backbone.name,
        vision_memory="" if backbone.vision is None else backbone.vision.place,
        demonstrations=entries_of(demonstrations, transcript),
    )
    dtype = settings.dtype(backbone)
    if dtype != backbone.dtype:
        memory = memory.store_as(dtype)
    return memory if settings.packing is None else memory.packed(settings.packing, backbone)


def _full_bytes(budget: Targets, settings: Settings, backbone: Backbone) -> int:
    """Keys and values of all tokens in the model's dtype; `store_as` scales it."""
    return budget.full_bytes * backbone.dtype.itemsize // settings.dtype(backbone).itemsize


def _report(
    memory: TaskMemory,
    settings: Settings,
    kept: Compressed,
    peak: PeakMemory,
    started: float,
) -> dict[str, Any]:
    full = [n for n, kind in enumerate(memory.geometry.layer_kinds) if kind == "full"]
    core, bank = (
        [count for layer in full if (one := layers[layer]) is not None for count in one.counts]
        for layers in (kept.core, kept.bank)
    )
    return {
        "recipe": settings.recipe.name,
        "mode": settings.mode,
        "demonstrations": len(memory.demonstrations),
        "tokens": memory.logical_length,
        "core_tokens": sum(core) / max(1, len(core)),
        "bank_tokens": sum(bank) / max(1, len(core)),
        "full_bytes": memory.full_bytes,
        "core_bytes": memory.core_bytes,
        "bank_bytes": memory.bank_bytes,
        "peak_memory_bytes": peak.bytes_above_start(),
        "seconds": {**kept.seconds, "total": time.perf_counter() - started},
    }


def _taken(compressor: Compressor) -> str:
    tried = ", ".join(f"{name} {loss:.3g}" for name, loss in compressor.notes["tried"].items())
    return (
        f"The recipe {compressor.recipe.name!r} took its parts {compressor.notes['taken']!r}, with "
        f"which answers change least here ({tried} nats). Trying took "
        f"{compressor.seconds['trial']:.1f} seconds."
    )
