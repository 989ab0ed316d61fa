"""A memory of what a build kept, and what is reported of the build.

Knows what compression leaves; not how demonstrations were read.
"""

import time
from collections.abc import Sequence
from typing import Any

from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Layout, Transcript
from tasm.compress.calibrate import calibrate, gate_queries
from tasm.compress.compressor import Compressor
from tasm.compress.entries import entries_of
from tasm.compress.peak import PeakMemory
from tasm.compress.prefill import Compressed
from tasm.compress.records.queries import Queries
from tasm.compress.records.recorder import Recorder
from tasm.compress.settings import Settings, Targets
from tasm.compress.shards.independent import taught_gate
from tasm.demonstrations import Demonstration
from tasm.memory import Bank, TaskMemory
from tasm.memory.entry import DemonstrationEntry


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
    """Return the memory of what was kept of a transcript; see `memory_of`."""
    entries, asked = entries_of(demonstrations, transcript), gate_queries(len(transcript.spans))
    return memory_of(backbone, transcript.layout, entries, settings, budget, kept, recorder, asked)


def memory_of(
    backbone: Backbone,
    layout: Layout,
    entries: Sequence[DemonstrationEntry],
    settings: Settings,
    budget: Targets,
    kept: Compressed,
    recorder: Recorder | None,
    asked: Queries,
) -> TaskMemory:
    """Return the memory of what was kept, its gate taught by the queries that `recorder` `asked`;
    nothing is said yet of how it was built (`memory.report`)."""
    reference = None
    tokens = len(kept.tokens)
    if recorder is None:
        reference = taught_gate(backbone, kept, [one.spans[0] for one in entries], settings)
    elif calibrates(settings, budget):
        rotary = backbone.rotary.for_length(tokens)
        spans = [entry.spans[0] for entry in entries]
        reference = calibrate(
            kept, recorder, asked, spans, rotary, settings.gate.kind, settings.quantile
        )
    bank = Bank(kept.bank) if any(layer is not None for layer in kept.bank) else None
    memory = TaskMemory(
        core=kept.core,
        bank=bank,
        tokens=kept.tokens.to("cpu"),
        gate=settings.gate if bank is not None else None,
        reference=reference,
        asked=kept.asked if reference is not None else None,
        states=None if all(state is None for state in kept.states) else kept.states,
        next_position=kept.next_position,
        logical_length=tokens,
        full_bytes=_full_bytes(budget, settings, backbone),
        geometry=backbone.geometry,
        identity=backbone.identity,
        layout=layout,
        recipe=settings.to_json() | ({"notes": kept.notes} if kept.notes else {}),
        model_name=backbone.name,
        vision_memory="" if backbone.vision is None else backbone.vision.place,
        demonstrations=entries,
    )
    dtype = settings.dtype(backbone)
    if dtype != backbone.dtype:
        memory = memory.store_as(dtype)
    return memory if settings.packing is None else memory.packed(settings.packing, backbone)


def _full_bytes(budget: Targets, settings: Settings, backbone: Backbone) -> int:
    """Keys and values of all tokens in the model's dtype; `store_as` scales it."""
    return budget.full_bytes * backbone.dtype.itemsize // settings.dtype(backbone).itemsize


def report_of(
    memory: TaskMemory,
    settings: Settings,
    kept: Compressed,
    peak: PeakMemory,
    started: float,
) -> dict[str, Any]:
    """Return what a memory's report says of a build that `started` then."""
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


def taken_parts(compressor: Compressor) -> str:
    """Return the sentence that says which parts a build took instead of the recipe's own."""
    tried = ", ".join(f"{name} {loss:.3g}" for name, loss in compressor.notes["tried"].items())
    return (
        f"The recipe {compressor.recipe.name!r} took its parts {compressor.notes['taken']!r}, with "
        f"which answers change least here ({tried} nats). Trying took "
        f"{compressor.seconds['trial']:.1f} seconds."
    )
