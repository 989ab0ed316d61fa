"""A task memory on disk: opened without reading it, checked before it is used.

Knows manifests and mapped files; how a memory is answered from is `task_memory.py`'s business.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from tasm.backbone.checkpoint.identity import Identity
from tasm.backbone.geometry import Geometry
from tasm.backbone.prompt.transcript import Layout
from tasm.errors import DamageError, InputError
from tasm.memory.contents import CoreContents, Counts
from tasm.memory.disk import folder as store
from tasm.memory.disk.blocks import FileRecord
from tasm.memory.disk.headers import TensorEntry, check_bank_header, check_core_header
from tasm.memory.disk.layers_on_disk import bank_layers, core_layers, held_bytes, per_head
from tasm.memory.disk.manifest import Manifest
from tasm.memory.disk.mapped_file import MappedFile
from tasm.memory.disk.schema import FORMAT_VERSION
from tasm.memory.disk.soundness import check_contents
from tasm.memory.entry import DemonstrationEntry, absolute_hint
from tasm.memory.retrieval.bank import Bank
from tasm.memory.retrieval.gate import GateReference, GateSettings
from tasm.memory.task_memory import TaskMemory
from tasm.memory.tokens import TABLE, TokenTable


def load(folder: Path) -> TaskMemory:
    """Open a memory; see `TaskMemory.load`."""
    manifest = store.read_manifest(folder)
    try:
        return StoredMemory(folder, manifest)
    except DamageError:
        # A writer may have replaced the manifest and deleted the old files in between.
        newer = store.read_manifest(folder)
        if newer == manifest:
            raise
        return StoredMemory(folder, newer)


class StoredMemory(TaskMemory):
    """A memory on disk: mapped when opened, checked when read."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        settings = dict(manifest.gate)
        self._thresholds = settings.pop("thresholds", None)
        self._step_thresholds = settings.pop("step_thresholds", None)
        self._manifest = manifest
        self._core_file = _open(folder, manifest.core, manifest, check_core_header)
        self._bank_file = None
        geometry = _geometry(manifest.geometry)
        model = manifest.model
        super().__init__(
            core=(),
            tokens=TokenTable.empty(),
            next_position=manifest.next_position,
            logical_length=manifest.logical_length,
            full_bytes=manifest.sizes["full"],
            geometry=geometry,
            identity=Identity.from_json(model["identity"], model.get("environment")),
            layout=Layout.from_json(manifest.layout),
            recipe=manifest.recipe,
            model_name=absolute_hint(model.get("path"), folder) or model.get("name") or "",
            gate=_gate(settings),
            demonstrations=[
                DemonstrationEntry.from_json(entry, folder) for entry in manifest.demonstrations
            ],
            report=manifest.report,
        )
        self.place = self._folder = folder
        if manifest.bank is not None:
            file = _open(folder, manifest.bank, manifest, check_bank_header)
            self._bank = Bank(lambda: bank_layers(file, manifest, geometry))
            self._bank_file = file

    @property
    def contents(self) -> CoreContents:
        """The core file's tensors, the whole file checked once."""
        return self._checked_contents

    @cached_property
    def _checked_contents(self) -> CoreContents:
        file = self._core_file
        file.check(0, file.record.size)
        names = set(file.names)
        try:
            tokens = TokenTable(**{part: file.read(f"tokens.{part}") for part in TABLE})
        except ValueError as error:
            raise file.damage(str(error)) from error
        layers = core_layers(file, self._manifest, self.geometry)
        contents = CoreContents(
            layers=layers,
            tokens=tokens,
            distributions=tuple(
                file.read(f"gate.{layer}") if f"gate.{layer}" in names else None
                for layer in range(len(layers))
            ),
            states=tuple(_read_state(file, layer) for layer in range(len(layers))),
        )
        try:
            check_contents(
                contents, self.next_position, [entry.spans for entry in self.demonstrations]
            )
        except ValueError as error:
            raise file.damage(str(error)) from error
        return contents

    def __reduce__(self) -> tuple[Any, ...]:
        """A memory on disk travels to other processes as its path and its digest."""
        return _reopen, (str(self._folder.absolute()), self.digest)

    @property
    def digest(self) -> str:
        """The digest that the manifest gives of itself: equal digests, equal memories."""
        return self._manifest.digest

    @property
    def reference(self) -> GateReference | None:
        """What the gate learned while the memory was built."""
        if self._thresholds is None:
            return None
        later = self._step_thresholds
        return GateReference(
            self.contents.distributions,
            tuple(self._thresholds),
            None if later is None else tuple(later),
        )

    @property
    def dtype(self) -> str:
        """The dtype of keys and values, as the manifest says."""
        return self._manifest.dtype

    @property
    def core_counts(self) -> Counts:
        """Core tokens of every layer and KV head, as the manifest says."""
        return per_head(self._manifest.core_tokens, self.geometry)

    @property
    def bank_counts(self) -> Counts | None:
        """Bank tokens of every layer and KV head, as the manifest says."""
        entries = self._manifest.bank_tokens
        return None if entries is None else per_head(entries, self.geometry)

    @property
    def core_bytes(self) -> int:
        """Bytes held for the core, as the file's header says."""
        return held_bytes(self._core_file.header, self.core_counts, self.geometry, self.dtype)

    @property
    def bank_bytes(self) -> int:
        """Bytes of the bank once it is in memory, as the file's header says."""
        if self._bank_file is None or self.bank_counts is None:
            return 0
        return held_bytes(self._bank_file.header, self.bank_counts, self.geometry, self.dtype)

    def check_all(self) -> None:
        """Check every block of every file, and every value; see `TaskMemory.check_all`."""
        self._core_file.check_all()
        _ = self.contents
        if self._bank_file is not None:
            self._bank_file.check_all()
        for layer in () if self.bank is None else self.bank.layers:
            if layer is not None:
                layer.held()
        self.thumbnails()

    def thumbnails(self) -> dict[str, bytes]:
        """The thumbnails by the SHA-256 of their pictures, checked."""
        return {
            Path(record.name).stem: store.read_picture(self._folder, record)
            for record in self._manifest.pictures
        }

    def public(self) -> dict[str, Any]:
        """See `TaskMemory.public`."""
        document = super().public()
        files = store.folder_bytes(self._folder)
        versions = self._manifest.versions
        return (
            {"format_version": FORMAT_VERSION, "versions": versions}
            | document
            | {"file_bytes": files}
        )


def _read_state(file: MappedFile, layer: int) -> dict[str, Tensor] | None:
    prefix = f"states.{layer}."
    names = [name for name in file.names if name.startswith(prefix)]
    return {name.removeprefix(prefix): file.read(name) for name in names} or None


def _geometry(document: Mapping[str, Any]) -> Geometry:
    return Geometry(**{**document, "layer_kinds": tuple(document["layer_kinds"])})


def _gate(document: Mapping[str, Any]) -> GateSettings:
    layers = document.get("layers")
    return GateSettings(**{**document, "layers": None if layers is None else tuple(layers)})


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


def _reopen(place: str, digest: str) -> TaskMemory:
    """What unpickling a memory on disk does.

    Raises:
        InputError: the memory is not there any more, or is another one.
    """
    try:
        memory = load(Path(place))
    except InputError as error:
        raise InputError(
            f"A task memory came from another process as its path, and cannot be opened: {error} "
            "Let this process see the same folder, or open the memory by its path here: "
            "tasm.load(…)."
        ) from error
    if getattr(memory, "digest", None) != digest:
        raise InputError(
            f"A task memory came from another process as its path, {place}, and another memory "
            "lies there now: its digest differs. Send the path anew, or keep a memory's folder "
            "as it is while other processes use it."
        )
    return memory
