"""A task memory becomes files: which tensor goes where, what the manifest says.

Knows memories and manifests; how files are written safely is `folder.py`'s business.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from tasm.errors import InputError
from tasm.memory.core_tensors import Counts
from tasm.memory.described import DescribedMemory
from tasm.memory.disk.folder import write_folder, write_pictures, write_tensor_file
from tasm.memory.disk.index import index_tensors, indexed
from tasm.memory.disk.layers import layer_tensors
from tasm.memory.disk.manifest import Manifest, PictureRecord
from tasm.memory.disk.packed import asked_tensors, packed_core_tensors, packed_tensors
from tasm.memory.disk.soundness import check_core, check_layer
from tasm.memory.entry import DemonstrationEntry, relative_hint
from tasm.memory.packing.bank import PackedBankLayer
from tasm.memory.packing.core import Core, PackedCore
from tasm.memory.retrieval.bank import Bank
from tasm.memory.retrieval.index.layer import LayerIndex
from tasm.memory.tokens import TABLE


def write_memory(
    memory: DescribedMemory,
    folder: Path,
    *,
    overwrite: bool,
    pictures: Mapping[str, bytes] | None,
    replacing: str | None = None,
) -> int:
    """Write a memory to a folder; see `TaskMemory.save`."""
    _judge(memory)
    thumbnails = memory.thumbnails() if pictures is None else pictures

    def fill(here: Path) -> Manifest:
        records = write_pictures(here, thumbnails)
        core = write_tensor_file(here, "core", core_tensors(memory.contents.core))
        described = replace(_describe(memory, folder, records), core=core, pictures=records)
        if memory.bank is None:
            return described
        ordered, indexes = memory.bank, list[LayerIndex | None]()
        if memory.packing is None:  # a packed layer is unpacked whole before it is searched
            ordered, indexes = indexed(memory.bank)
        bank = write_tensor_file(here, "bank", _bank_tensors(ordered))
        if all(one is None for one in indexes):
            return replace(described, bank=bank)
        index = write_tensor_file(here, "index", index_tensors(indexes))
        return replace(described, bank=bank, index=index)

    shown = len(thumbnails) * _THUMBNAIL_BYTES  # each is made when it is written
    needed = memory.core_bytes + memory.bank_bytes + shown
    return write_folder(folder, fill, overwrite=overwrite, needed=needed, replacing=replacing)


def _judge(memory: DescribedMemory) -> None:
    """Raise `InputError` for tensors that no reader would take."""
    spans = [entry.spans for entry in memory.demonstrations]
    try:
        check_core(memory.contents.core, memory.next_position, spans)
        for number, layer in enumerate(() if memory.bank is None else memory.bank.layers):
            if layer is not None:
                check_layer(layer.held(), len(memory.tokens), f"layer {number} of the bank")
    except ValueError as error:
        raise InputError(
            f"The memory cannot be written: {error}. Such a memory would not answer well; build it "
            "anew, in float32 or bfloat16 where a number was too large."
        ) from error


def core_tensors(core: Core) -> dict[str, Tensor]:
    """The tensors of the core file, by name."""
    if isinstance(core, PackedCore):
        return packed_core_tensors(core)
    tensors: dict[str, Tensor] = {f"tokens.{part}": getattr(core.tokens, part) for part in TABLE}
    for layer, kept in enumerate(core.layers):
        if kept is not None:
            tensors |= layer_tensors(layer, kept)
        distribution, state = core.distributions[layer], core.states[layer]
        if distribution is not None:
            tensors[f"gate.{layer}"] = distribution
        for name, part in (state or {}).items():
            tensors[f"states.{layer}.{name}"] = part
    return tensors | asked_tensors(core.asked)


def _bank_tensors(bank: Bank) -> dict[str, Tensor]:
    """The tensors of the bank file, by name."""
    if any(isinstance(layer, PackedBankLayer) for layer in bank.layers):
        return packed_tensors(
            [
                layer.packed() if isinstance(layer, PackedBankLayer) else None
                for layer in bank.layers
            ]
        )
    tensors: dict[str, Tensor] = {}
    for layer, kept in enumerate(bank.layers):
        if kept is not None:
            tensors |= layer_tensors(layer, kept.held())
    return tensors


def _describe(memory: DescribedMemory, folder: Path, pictures: list[PictureRecord]) -> Manifest:
    """The manifest but for its files."""
    reference = memory.reference
    gate = asdict(memory.gate)
    if gate["first_steps"] is None:  # an older reader refuses what it does not know of a gate
        del gate["first_steps"]
    gate["thresholds"] = None if reference is None else list(reference.thresholds)
    later = None if reference is None else reference.step_thresholds
    gate["step_thresholds"] = None if later is None else list(later)
    is_folder = os.path.isdir(memory.model_name)
    model = {
        "name": None if is_folder else memory.model_name,
        "path": relative_hint(memory.model_name, folder) if is_folder else None,
        "identity": memory.identity.to_json(),
        "environment": dict(memory.identity.environment),
    }
    if memory.vision_memory:
        model["vision_memory"] = relative_hint(memory.vision_memory, folder)
    names = {Path(picture.name).stem: picture.name for picture in pictures}
    bank_counts = memory.bank_counts
    return Manifest(
        versions={name: _version(name) for name in ("tasm", "torch", "transformers")},
        model=model,
        geometry=asdict(memory.geometry),
        dtype=memory.dtype,
        recipe=memory.recipe,
        layout=memory.layout.to_json(),
        next_position=memory.next_position,
        logical_length=memory.logical_length,
        core_tokens=_short(memory.core_counts),
        bank_tokens=None if bank_counts is None else _short(bank_counts),
        gate=gate,
        demonstrations=[
            _with_thumbnails(entry, names).to_json(folder) for entry in memory.demonstrations
        ],
        sizes={"full": memory.full_bytes, "core": memory.core_bytes, "bank": memory.bank_bytes},
        report={name: one for name, one in memory.report.items() if name not in _OF_THE_RUN},
        core=_NO_FILE,
        packing=memory.packing,
    )


_THUMBNAIL_BYTES = 10_000
"""What one takes, about."""

_OF_THE_RUN = ("seconds", "peak_memory_bytes")
"""Figures of a report that differ from run to run; a file leaves them out, so that equal builds
give equal bytes."""

_NO_FILE: Any = None  # filled in once the file is written


def _with_thumbnails(entry: DemonstrationEntry, names: Mapping[str, str]) -> DemonstrationEntry:
    pictures = tuple(
        replace(picture, thumbnail=names.get(picture.sha256)) for picture in entry.pictures
    )
    return replace(entry, pictures=pictures)


def _short(counts: Counts) -> list[Any]:
    """Null, one number where all heads agree, or a list."""
    return [
        None if heads is None else heads[0] if len(set(heads)) == 1 else list(heads)
        for heads in counts
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
