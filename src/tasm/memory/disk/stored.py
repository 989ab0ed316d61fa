"""A memory's files, opened without reading them, checked before they are used.

Knows manifests and mapped files; how a memory is answered from is not known here.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from tasm.backbone.checkpoint.identity import Identity
from tasm.backbone.geometry import Geometry
from tasm.backbone.prompt.transcript import Layout
from tasm.errors import DamageError, WorkError
from tasm.memory.contents import Contents
from tasm.memory.core_tensors import CoreTensors, Counts
from tasm.memory.described import MemoryFacts
from tasm.memory.disk import folder as memory_folder
from tasm.memory.disk.blocks import FileRecord
from tasm.memory.disk.headers import TensorEntry, check_bank_header, check_core_header
from tasm.memory.disk.index import IndexFile, check_index_header
from tasm.memory.disk.layers import MappedLayer, core_layers, held_bytes, per_head
from tasm.memory.disk.manifest import Manifest
from tasm.memory.disk.mapped_file import MappedFile
from tasm.memory.disk.packed import (
    check_packed_bank,
    check_packed_core,
    open_packed_bank,
    open_packed_core,
    read_asked,
)
from tasm.memory.disk.schema import FORMAT_VERSION, PLAIN_VERSION
from tasm.memory.disk.soundness import check_core
from tasm.memory.entry import DemonstrationEntry, absolute_hint
from tasm.memory.packing.core import Core, PackedCore
from tasm.memory.packing.vectors import Store
from tasm.memory.retrieval.bank import Bank, Layers
from tasm.memory.retrieval.gate import GateReference, GateSettings
from tasm.memory.tokens import TABLE, TokenTable


def open_stored(folder: Path) -> "tuple[MemoryFacts, StoredContents]":
    """Open a memory: its manifest and its files' headers are checked, no block is read.

    Raises what `TaskMemory.load` raises.
    """
    manifest = memory_folder.read_manifest(folder)
    while True:
        try:
            facts = _facts(folder, manifest)
            return facts, StoredContents(folder, manifest, facts)
        except DamageError:
            # A writer may have replaced the manifest and deleted the old files in between.
            newer = memory_folder.read_manifest(folder)
            if newer == manifest:
                raise
            manifest = newer


def _facts(folder: Path, manifest: Manifest) -> MemoryFacts:
    model = manifest.model
    return MemoryFacts(
        next_position=manifest.next_position,
        logical_length=manifest.logical_length,
        full_bytes=manifest.sizes["full"],
        geometry=Geometry(
            **{**manifest.geometry, "layer_kinds": tuple(manifest.geometry["layer_kinds"])}
        ),
        identity=Identity.from_json(model["identity"], model.get("environment")),
        layout=Layout.from_json(manifest.layout),
        recipe=manifest.recipe,
        model_name=absolute_hint(model.get("path"), folder) or model.get("name") or "",
        gate=_gate(manifest.gate),
        demonstrations=tuple(
            DemonstrationEntry.from_json(entry, folder) for entry in manifest.demonstrations
        ),
        report=manifest.report,
        vision_memory=absolute_hint(model.get("vision_memory"), folder) or "",
        place=folder,
    )


class StoredContents(Contents):
    """The tensors of a memory on disk: mapped when opened, checked when read."""

    def __init__(self, folder: Path, manifest: Manifest, facts: MemoryFacts) -> None:
        self._folder, self._manifest, self._facts = folder, manifest, facts
        self.digest = manifest.digest
        is_packed = manifest.packing is not None
        check = check_packed_core if is_packed else check_core_header
        self._core_file = _open(folder, manifest.core, manifest, check)
        check = check_packed_bank if is_packed else check_bank_header
        self._bank_file = (
            None if manifest.bank is None else _open(folder, manifest.bank, manifest, check)
        )
        self._index = (
            None
            if manifest.index is None
            else IndexFile(_open(folder, manifest.index, manifest, check_index_header), manifest)
        )

    @property
    def files(self) -> tuple[MappedFile, ...]:
        """The mapped files: the core's, and the bank's and its index's where there is one."""
        index = None if self._index is None else self._index.file
        files = (self._core_file, self._bank_file, index)
        return tuple(file for file in files if file is not None)

    @cached_property
    def core(self) -> Core:
        """The core file's tensors, the whole file checked once."""
        file = self._core_file
        file.check(0, file.record.size)
        spans = [entry.spans for entry in self._facts.demonstrations]
        try:
            core: Core
            if self.packing is None:
                core = self._plain_core()
            else:
                geometry = self._facts.geometry
                core = open_packed_core(file, self._manifest, geometry, self._states())
            check_core(core, self._facts.next_position, spans)
        except ValueError as error:
            raise file.damage(str(error)) from error
        return core

    def _plain_core(self) -> CoreTensors:
        file = self._core_file
        layers = core_layers(file, self.core_counts)
        return CoreTensors(
            layers=layers,
            tokens=TokenTable(**{part: file.read(f"tokens.{part}") for part in TABLE}),
            distributions=tuple(
                file.read(f"gate.{layer}") if f"gate.{layer}" in file.header else None
                for layer in range(len(layers))
            ),
            states=self._states(),
            asked=read_asked(file, len(layers)),
        )

    def _states(self) -> tuple[dict[str, Tensor] | None, ...]:
        file, states = self._core_file, []
        for layer in range(self._facts.geometry.layers):
            prefix = f"states.{layer}."
            names = [name for name in file.header if name.startswith(prefix)]
            states.append({name.removeprefix(prefix): file.read(name) for name in names} or None)
        return tuple(states)

    @cached_property
    def bank(self) -> Bank | None:
        """The bank, its layers mapped when they are first asked for."""
        file = self._bank_file
        if file is None:
            return None
        if self.packing is not None:
            return Bank(lambda: self._packed_layers(file))
        if self._index is None:
            return Bank(lambda: self._mapped_layers(file))
        file.read_sparsely()
        return Bank(lambda: self._mapped_layers(file), self._index.layer)

    def _mapped_layers(self, file: MappedFile) -> Layers:
        return [
            None if heads is None else MappedLayer(file, number, heads, self._facts.logical_length)
            for number, heads in enumerate(self.bank_counts or ())
        ]

    def _packed_layers(self, file: MappedFile) -> Layers:
        core = cast(PackedCore, self.core)
        return open_packed_bank(file, self._manifest, self._facts.geometry, core)

    @property
    def reference(self) -> GateReference | None:
        thresholds = self._manifest.gate.get("thresholds")
        if thresholds is None:
            return None
        later = self._manifest.gate.get("step_thresholds")
        return GateReference(
            self.core.distributions, tuple(thresholds), None if later is None else tuple(later)
        )

    @property
    def dtype(self) -> str:
        return self._manifest.dtype

    @property
    def packing(self) -> Store | None:
        return cast("Store | None", self._manifest.packing)

    @property
    def core_counts(self) -> Counts:
        return per_head(self._manifest.core_tokens, self._facts.geometry.kv_heads)

    @property
    def bank_counts(self) -> Counts | None:
        entries = self._manifest.bank_tokens
        return None if entries is None else per_head(entries, self._facts.geometry.kv_heads)

    @property
    def core_bytes(self) -> int:
        """Bytes held for the core, as the file's header says."""
        return self._bytes_of(self._core_file, self.core_counts)

    @property
    def bank_bytes(self) -> int:
        """Bytes of the bank once it is in memory, its index included, as the files' headers say."""
        counts = self.bank_counts
        if self._bank_file is None or counts is None:
            return 0
        index = 0 if self._index is None else self._index.nbytes
        return index + self._bytes_of(self._bank_file, counts)

    def _bytes_of(self, file: MappedFile, counts: Counts) -> int:
        if self.packing is not None:  # held as it is stored
            return sum(entry.stop - entry.start for entry in file.header.values())
        return held_bytes(file.header, counts, self._facts.geometry, self.dtype)

    def check_all(self) -> None:
        """Check every block of every file, every value, and the thumbnails."""
        self._core_file.check_all()
        _ = self.core
        for file in self.files[1:]:
            file.check_all()
        for number in range(self._facts.geometry.layers):
            if self._index is not None:
                self._index.layer(number)
        for layer in () if self.bank is None else self.bank.layers:
            if layer is not None:
                layer.held()
        self.thumbnails()

    def thumbnails(self) -> dict[str, bytes]:
        """The thumbnails by the SHA-256 of their pictures, checked."""
        try:
            return {
                Path(record.name).stem: memory_folder.read_picture(self._folder, record)
                for record in self._manifest.pictures
            }
        except DamageError:
            if memory_folder.read_manifest(self._folder).digest == self.digest:
                raise
        raise WorkError(
            f"{self._folder} was changed by another process since it was opened, and the pictures "
            "it had are gone. Open it again."
        )

    def about_files(self) -> dict[str, Any]:
        """The format's version, those of what wrote it, and the folder's bytes."""
        return {
            "format_version": PLAIN_VERSION if self.packing is None else FORMAT_VERSION,
            "versions": self._manifest.versions,
            "file_bytes": memory_folder.folder_bytes(self._folder),
        }


def _gate(document: Mapping[str, Any]) -> GateSettings:
    settings = {name: document[name] for name in document if not name.endswith("thresholds")}
    layers = settings.get("layers")
    return GateSettings(**{**settings, "layers": None if layers is None else tuple(layers)})


def _open(
    folder: Path,
    record: FileRecord,
    manifest: Manifest,
    check: Callable[[Mapping[str, TensorEntry], Manifest], None],
) -> MappedFile:
    """Map a file and hold its header against the manifest, before anything else is done with it."""
    file = MappedFile(folder / record.name, record)
    try:
        check(file.header, manifest)
    except ValueError as error:
        raise file.damage(str(error)) from error
    return file
