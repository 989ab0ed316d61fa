"""A task memory on disk: opened without reading it, checked before it is used.

Knows manifests and mapped files; how a memory is answered from is `task_memory.py`'s business.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from tasm.backbone.checkpoint.identity import Identity
from tasm.backbone.geometry import Geometry
from tasm.backbone.prompt.transcript import Layout
from tasm.errors import DamageError, FormatError
from tasm.memory.contents import CoreContents, Counts
from tasm.memory.disk import folder as store
from tasm.memory.disk.layers_on_disk import bank_layers, check_layers, core_layers, per_head
from tasm.memory.disk.manifest import FORMAT_VERSION, Manifest
from tasm.memory.disk.mapped_file import MappedFile
from tasm.memory.entry import DemonstrationEntry, absolute_hint
from tasm.memory.retrieval.bank import Bank
from tasm.memory.retrieval.gate import GateReference, GateSettings
from tasm.memory.task_memory import TaskMemory
from tasm.memory.tokens import TABLE, TokenTable

Value = TypeVar("Value")


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
        where = str(folder / store.MANIFEST)
        settings = dict(manifest.gate)
        self._thresholds = settings.pop("thresholds", None)
        self._step_thresholds = settings.pop("step_thresholds", None)
        self._manifest = manifest
        geometry = _parse(where, "geometry", lambda: _geometry(manifest.geometry))
        check_layers(where, manifest, geometry)
        model = manifest.model
        name = absolute_hint(model.get("path"), folder) or model.get("name") or ""
        super().__init__(
            core=(),
            tokens=TokenTable.empty(),
            next_position=manifest.next_position,
            logical_length=manifest.logical_length,
            full_bytes=_parse(where, "sizes", lambda: int(manifest.sizes["full"])),
            geometry=geometry,
            identity=_parse(
                where,
                "model",
                lambda: Identity.from_json(model["identity"], model.get("environment")),
            ),
            layout=Layout.from_json(manifest.layout),
            recipe=manifest.recipe,
            model_name=name,
            gate=_parse(where, "gate", lambda: _gate(settings)),
            demonstrations=_parse(
                where,
                "demonstrations",
                lambda: [
                    DemonstrationEntry.from_json(entry, folder) for entry in manifest.demonstrations
                ],
            ),
            report=manifest.report,
        )
        self.place = folder
        self._core_file = MappedFile(folder / manifest.core.name, manifest.core)
        self._bank_file = None
        if manifest.bank is not None:
            file = MappedFile(folder / manifest.bank.name, manifest.bank)
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
        for layer in layers:
            if layer is not None and layer.index.numel() and int(layer.index.max()) >= len(tokens):
                raise file.damage(f"it names a token past the {len(tokens)} of the table")
        return CoreContents(
            layers=layers,
            tokens=tokens,
            distributions=tuple(
                file.read(f"gate.{layer}") if f"gate.{layer}" in names else None
                for layer in range(len(layers))
            ),
            states=tuple(_read_state(file, layer) for layer in range(len(layers))),
        )

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
        """Bytes held for the core, as the manifest says."""
        return int(self._manifest.sizes.get("core", 0))

    @property
    def bank_bytes(self) -> int:
        """Bytes of the bank, as the manifest says."""
        return int(self._manifest.sizes.get("bank", 0))

    def check_all(self) -> None:
        """Check every block of every file; see `TaskMemory.check_all`."""
        self._core_file.check_all()
        if self._bank_file is not None:
            self._bank_file.check_all()
        self.thumbnails()

    def thumbnails(self) -> dict[str, bytes]:
        """The thumbnails by the SHA-256 of their pictures, checked."""
        folder = self.place
        if folder is None:
            return {}
        return {
            Path(record.name).stem: store.read_picture(folder, record)
            for record in self._manifest.pictures
        }

    def public(self) -> dict[str, Any]:
        """See `TaskMemory.public`."""
        document = super().public()
        files = store.folder_bytes(self.place) if self.place is not None else 0
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


def _parse(where: str, field: str, read: Callable[[], Value]) -> Value:
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(
            f"{where}: {field!r} is not what this tasm writes ({error}). Was it written by a newer "
            "one?"
        ) from error
