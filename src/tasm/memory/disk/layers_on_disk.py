"""The layers of a memory's files, held against what its manifest says of them.

Knows manifests and mapped files; nothing of caches or gates.
"""

from collections.abc import Mapping
from typing import Any

import torch

from tasm.backbone.geometry import Geometry
from tasm.memory.contents import Counts
from tasm.memory.disk.headers import TensorEntry
from tasm.memory.disk.layers_mapped import MappedLayer
from tasm.memory.disk.manifest import Manifest
from tasm.memory.disk.mapped_file import MappedFile
from tasm.memory.disk.rules import shown
from tasm.memory.layer import LayerTokens


def core_layers(
    file: MappedFile, manifest: Manifest, geometry: Geometry
) -> tuple[LayerTokens | None, ...]:
    """The core's layers, all of them checked; raises DamageError."""
    opened = _open_layers(file, manifest, manifest.core_tokens, geometry)
    return tuple(None if layer is None else layer.whole() for layer in opened)


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
        layer = None
        if heads is not None:
            layer = MappedLayer.open(file, number, manifest.logical_length)
            if layer.counts != heads:
                raise file.damage(
                    f"layer {number} holds {shown(list(layer.counts))} tokens of each head, the "
                    f"manifest says {shown(list(heads))}"
                )
        layers.append(layer)
    return layers


def held_bytes(
    header: Mapping[str, TensorEntry], counts: Counts, geometry: Geometry, dtype: str
) -> int:
    """Bytes that a file's tensors take once held: heads of different lengths are padded, and a bias
    hides the padding."""
    total = sum(e.stop - e.start for name, e in header.items() if not name.startswith("layers."))
    pair = 2 * geometry.head_dim * getattr(torch, dtype).itemsize
    for layer, heads in enumerate(counts):
        if heads is None:
            continue
        has_bias = f"layers.{layer}.bias" in header or len(set(heads)) > 1
        total += len(heads) * max(heads) * (pair + _INDEX + (_BIAS if has_bias else 0))
    return total


_INDEX, _BIAS = 4, 4  # bytes of int32 and float32
