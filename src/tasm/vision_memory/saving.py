"""An adapter as a folder, in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.

The configuration says which model the adapter was trained on, by hash; on another one it is
refused. The weights are checked against their SHA-256 whenever they are read.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from tasm.arguments import path as a_path
from tasm.backbone.checkpoint.identity import VISION_MEMORY, Identity
from tasm.backbone.model import Backbone
from tasm.errors import DamageError, FormatError, InputError, MismatchError
from tasm.files import naming_work, write_bytes, write_json
from tasm.vision_memory.attached import VisionMemory
from tasm.vision_memory.module import VisionAdapter, make_adapter
from tasm.vision_memory.settings import AdapterSettings

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FORMAT_VERSION = 1
_LARGEST_CONFIG = 1 << 24


@dataclass(frozen=True)
class SavedAdapter:
    """What lies in an adapter's folder: its settings, the model it was trained on, and how."""

    folder: Path
    settings: AdapterSettings
    base: Identity
    base_name: str
    sha256: str
    training: Mapping[str, Any] = field(default_factory=dict)

    def adapter(self) -> VisionAdapter:
        """Read the weights; raises `DamageError` where they are not what was written."""
        place = self.folder / WEIGHTS
        try:
            data = place.read_bytes()
        except OSError as error:
            raise DamageError(f"{place} cannot be read: {error.strerror or error}.") from error
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise DamageError(
                f"{place} is damaged: it differs from its SHA-256 in {CONFIG}. Copy the adapter "
                "again, or train it anew."
            )
        adapter = make_adapter(self.settings)
        wanted = {name: value.shape for name, value in adapter.state_dict().items()}
        try:
            tensors: dict[str, Tensor] = read_tensors(data)
        except SafetensorError as error:
            raise DamageError(f"{place} is damaged: {error}.") from error
        if {name: value.shape for name, value in tensors.items()} != wanted:
            raise FormatError(
                f"{place} holds other tensors than an adapter of its settings has. Was it written "
                "by a newer tasm?"
            )
        adapter.load_state_dict(tensors)
        return adapter


def save_adapter(
    folder: Path, vision: VisionMemory, training: Mapping[str, Any] | None = None
) -> None:
    """Write an adapter into a folder; the configuration last, so that it never names other weights.

    ```python
    save_adapter(Path("birds-mema"), vision)
    ```
    """
    with vision.paused():  # of the model as it is without the adapter
        base = vision.backbone.identity
    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in vision.adapter.state_dict().items()
    }
    data = tensor_bytes(weights, metadata={"format": "pt"})
    with naming_work(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).unlink(missing_ok=True)
        write_bytes(folder / WEIGHTS, data)
        document = {
            "peft_type": "MEMA",
            "format_version": FORMAT_VERSION,
            "base_model_name_or_path": vision.backbone.name,
            "base_identity": base.to_json(),
            "base_environment": dict(base.environment),
            "settings": vision.adapter.settings.to_json(),
            "sha256": hashlib.sha256(data).hexdigest(),
            "training": dict(training or {}),
        }
        write_json(folder / CONFIG, document)


def read_saved(folder: str | Path) -> SavedAdapter:
    """Read an adapter's configuration.

    ```python
    read_saved("birds-mema").settings.width
    ```

    Raises `InputError` where there is no adapter, `FormatError` for one of a newer tasm.
    """
    place = a_path(folder, "the vision memory", "the folder of an adapter")
    config = place / CONFIG
    if not config.is_file():
        hint = " Its training has not ended: go on with --resume." if _unfinished(place) else ""
        raise InputError(
            f"{place} is no vision memory: it has no {CONFIG}. Expected the folder that "
            f"`tasm vision-memory train` wrote.{hint}"
        )
    try:
        document = json.loads(config.read_bytes()[:_LARGEST_CONFIG])
    except (OSError, ValueError) as error:
        raise DamageError(f"{config} cannot be read: {error}. Copy the adapter again.") from error
    if not isinstance(document, dict) or document.get("peft_type") != "MEMA":
        kind = document.get("peft_type") if isinstance(document, dict) else None
        raise FormatError(
            f"{config} is of the adapter kind {kind!r}; expected 'MEMA'. Adapters of the weights, "
            "such as LoRA, are loaded with PEFT and wrapped: tasm.wrap(model, processor)."
        )
    if document.get("format_version") != FORMAT_VERSION:
        raise FormatError(
            f"{config} has format version {document.get('format_version')!r}; this tasm reads "
            f"{FORMAT_VERSION}. Install a newer tasm to use this adapter."
        )
    return SavedAdapter(
        folder=place,
        settings=AdapterSettings.from_json(document.get("settings"), str(config)),
        base=Identity.from_json(document.get("base_identity"), document.get("base_environment")),
        base_name=str(document.get("base_model_name_or_path", "")),
        sha256=str(document.get("sha256", "")),
        training=document.get("training") or {},
    )


def _unfinished(place: Path) -> bool:
    return (place / "checkpoint.safetensors").is_file()


def attach_vision_memory(backbone: Backbone, folder: str | Path) -> VisionMemory:
    """Put a saved adapter into a model's vision tower.

    ```python
    vision = attach_vision_memory(model.backbone, "birds-mema")
    vision.remove()
    ```

    Raises `MismatchError` where it was trained on another model, `InputError` where there is no
    adapter or another one is on, and `DamageError` for damaged files.
    """
    saved = read_saved(folder)
    check_base(saved, backbone)
    vision = VisionMemory(backbone, saved.adapter(), str(saved.folder))
    vision.attach()
    return vision


def check_base(saved: SavedAdapter, backbone: Backbone) -> None:
    """Raise `MismatchError` where an adapter was trained on another model."""
    here = backbone.identity
    names = [name for name in saved.base.differences(here) if name != VISION_MEMORY]
    if names:
        raise MismatchError(
            f"The vision memory {saved.folder} was trained on another model "
            f"({saved.base_name or 'unnamed'}) than {backbone.name!r}: {'; '.join(names)}. Give "
            "that model, or train one for this model (tasm vision-memory train)."
        )
