"""The layers of a memory's files, held against what its manifest says of them.

Knows manifests and mapped files; nothing of caches or gates.
"""

from typing import Any

from torch import Tensor

from tasm.backbone.geometry import Geometry
from tasm.errors import FormatError
from tasm.memory.contents import Counts
from tasm.memory.disk.layers_mapped import MappedLayer
from tasm.memory.disk.manifest import Manifest
from tasm.memory.disk.mapped_file import MappedFile
from tasm.memory.layer import LayerTokens

DTYPES = ("float32", "float16", "bfloat16")
"""What keys and values may be stored as."""


def core_layers(
    file: MappedFile, manifest: Manifest, geometry: Geometry
) -> tuple[LayerTokens | None, ...]:
    """The core's layers, all of them checked; raises DamageError."""
    opened = _open_layers(file, manifest, manifest.core_tokens, geometry)
    return tuple(None if layer is None else layer.held() for layer in opened)


def bank_layers(
    file: MappedFile, manifest: Manifest, geometry: Geometry
) -> list[MappedLayer | None]:
    """The bank's layers, mapped and not yet read; raises DamageError."""
    return _open_layers(file, manifest, manifest.bank_tokens or [], geometry)


def per_head(entries: list[Any], geometry: Geometry) -> Counts:
    """Tokens of every layer and KV head from a manifest's short form."""
    return tuple(
        None
        if entry is None
        else tuple(entry)
        if isinstance(entry, list)
        else (entry,) * geometry.kv_heads
        for entry in entries
    )


def _open_layers(
    file: MappedFile, manifest: Manifest, entries: list[Any], geometry: Geometry
) -> list[MappedLayer | None]:
    layers: list[MappedLayer | None] = []
    for number, heads in enumerate(per_head(entries, geometry)):
        layer = None if heads is None else MappedLayer.open(file, number)
        if layer is not None:
            _check_layer(file, number, layer, (heads, geometry.head_dim, manifest.dtype))
        layers.append(layer)
    return layers


def _check_layer(file: MappedFile, number: int, layer: MappedLayer, expected: object) -> None:
    def dtype(tensor: Tensor) -> str:
        return str(tensor.dtype).removeprefix("torch.")

    for part in (layer.keys.unchecked, layer.values.unchecked):
        seen = (layer.counts, part.shape[-1], dtype(part))
        if seen != expected:
            raise file.damage(
                f"layer {number} holds {seen}, the manifest says {expected}: tokens of each head, "
                "their size, their dtype"
            )


def check_layers(where: str, manifest: Manifest, geometry: Geometry) -> None:
    """Whether lists with an entry a layer, or a head, have as many as the geometry says."""
    lists = {
        "core_tokens": manifest.core_tokens,
        "bank_tokens": manifest.bank_tokens,
        "thresholds": manifest.gate.get("thresholds"),
        "step_thresholds": manifest.gate.get("step_thresholds"),
    }
    for name, entries in lists.items():
        if entries is not None and len(entries) != geometry.layers:
            raise FormatError(
                f"{where}: {name!r} has {len(entries)} entries; expected one for each of the "
                f"{geometry.layers} layers."
            )
        heads = {len(entry) for entry in entries or [] if isinstance(entry, list)}
        if heads - {geometry.kv_heads}:
            raise FormatError(
                f"{where}: {name!r} has an entry of {max(heads)} numbers; expected one for each of "
                f"the {geometry.kv_heads} KV heads."
            )
    if manifest.dtype not in DTYPES:
        raise FormatError(f"{where}: 'dtype' is {manifest.dtype!r}; expected {', '.join(DTYPES)}.")
