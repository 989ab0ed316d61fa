"""What may be shown of a memory: JSON values, nothing of its tensors but their sizes."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from tasm.memory.entry import DemonstrationEntry
    from tasm.memory.task_memory import TaskMemory


def describe(memory: "TaskMemory") -> dict[str, Any]:
    """The public part of a memory's manifest, with the sizes of every layer; reads no tensor of a
    memory on disk. `tasm show --json` prints it."""
    folder = Path("." if memory.place is None else memory.place)
    banked = memory.bank_counts or (None,) * len(memory.core_counts)
    token_bytes = 2 * memory.geometry.head_dim * getattr(torch, memory.dtype).itemsize
    layers = [
        {
            "layer": layer,
            "kind": memory.geometry.layer_kinds[layer],
            "core_tokens": _mean(core),
            "bank_tokens": _mean(bank),
            "core_bytes": token_bytes * sum(core or ()),
            "bank_bytes": token_bytes * sum(bank or ()),
        }
        for layer, (core, bank) in enumerate(zip(memory.core_counts, banked, strict=True))
    ]
    return {
        "memory": None if memory.place is None else str(memory.place),
        "model": {
            "name": memory.model_name,
            "identity": memory.identity.to_json(),
            "environment": dict(memory.identity.environment),
        },
        "geometry": asdict(memory.geometry),
        "dtype": memory.dtype,
        "recipe": memory.recipe,
        "layout": memory.layout.to_json(),
        "next_position": memory.next_position,
        "logical_length": memory.logical_length,
        "gate": asdict(memory.gate),
        "full_bytes": memory.full_bytes,
        "core_bytes": memory.core_bytes,
        "bank_bytes": memory.bank_bytes,
        "layers": layers,
        "demonstrations": [_entry(entry, folder) for entry in memory.demonstrations],
        "report": memory.report,
    }


def _entry(entry: "DemonstrationEntry", folder: Path) -> dict[str, Any]:
    document = entry.to_json(folder)
    del document["text_ends"]  # a number a token: for pages, not for readers
    return document


def _mean(heads: tuple[int, ...] | None) -> float:
    return sum(heads) / len(heads) if heads else 0.0
