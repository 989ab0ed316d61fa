"""What is known of a memory beside its tensors. Knows names and numbers only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasm.backbone.checkpoint.identity import Identity
from tasm.backbone.geometry import Geometry
from tasm.backbone.prompt.transcript import Layout
from tasm.memory.entry import DemonstrationEntry
from tasm.memory.retrieval.gate import GateSettings


@dataclass(frozen=True, eq=False)
class MemoryFacts:
    """What is known of a memory; `TaskMemory` says what each field means.

    `place` is the folder it was opened from, None for a memory that was never saved.
    """

    next_position: int
    logical_length: int
    full_bytes: int
    geometry: Geometry
    identity: Identity
    layout: Layout
    recipe: dict[str, Any]
    model_name: str
    gate: GateSettings
    demonstrations: tuple[DemonstrationEntry, ...]
    report: dict[str, Any]
    vision_memory: str = ""
    place: Path | None = None
