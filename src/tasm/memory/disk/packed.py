"""Packed memories in files: which tensors hold them, what their headers must say, how they open.

All layers of a file share a few tensors, because a header's line for each of a layer's would take
more than some layers do. Knows manifests and mapped files; nothing of folders or gates.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor

from tasm.backbone.geometry import Geometry, LayerKind
from tasm.memory.asked import KeptQueries
from tasm.memory.core_tensors import Counts
from tasm.memory.disk.headers import HeaderCheck, TensorEntry
from tasm.memory.disk.layers import per_head
from tasm.memory.disk.manifest import Manifest
from tasm.memory.disk.mapped_file import MappedFile
from tasm.memory.disk.soundness import check_layer
from tasm.memory.layer import LayerTokens
from tasm.memory.packing.bank import PackedBankLayer
from tasm.memory.packing.core import PackedCore, PackedTable, Unpacking
from tasm.memory.packing.integers import deflated, inflated
from tasm.memory.packing.layer import Means, PackedBias, PackedTokens
from tasm.memory.packing.rotation import Rotation
from tasm.memory.packing.vectors import Store, Vectors, row_bytes

# ---------------------------------------------------------------------- writing


def packed_core_tensors(core: PackedCore) -> dict[str, Tensor]:
    """The tensors of a packed core's file, by name."""
    tensors = {"tokens": core.unpacking.table.stream, **packed_tensors(core.packed)}
    for kind, rotation in core.unpacking.rotations.items():
        tensors[f"rotation.{kind}.pairs"] = deflated(rotation.pairs)
        tensors[f"rotation.{kind}.frequencies"] = rotation.frequencies
    for layer, half in enumerate(core.halves):
        if half is not None:
            tensors[f"gate.{layer}"] = half
        for name, part in (core.states[layer] or {}).items():
            tensors[f"states.{layer}.{name}"] = part
    return tensors | asked_tensors(core.asked)


def asked_tensors(asked: KeptQueries | None) -> dict[str, Tensor]:
    """The tensors of queries that are kept for the gate, by name."""
    if asked is None:
        return {}
    layers = enumerate(asked.layers)
    held = {f"asked.{layer}": one for layer, one in layers if one is not None}
    return {"asked.index": asked.index, **held}


def read_asked(file: MappedFile, layers: int) -> KeptQueries | None:
    """The queries that a core file keeps for the gate, or None."""
    if "asked.index" not in file.header:
        return None
    names = [f"asked.{layer}" for layer in range(layers)]
    held = tuple(file.read(name) if name in file.header else None for name in names)
    return KeptQueries(file.read("asked.index"), held)


def packed_tensors(layers: Sequence[PackedTokens | None]) -> dict[str, Tensor]:
    """The tensors that hold packed layers, one after the other."""
    held = [layer for layer in layers if layer is not None]
    if not held:
        return {}
    ends = torch.tensor([len(layer.index) for layer in held]).cumsum(0)
    tensors = {
        "keys": torch.cat([layer.keys.rows for layer in held]),
        "values": torch.cat([layer.values.rows for layer in held]),
        "index": torch.cat([layer.index for layer in held]),
        "index.ends": ends,
    }
    if not all(layer.has_all_means for layer in held):
        tensors["means"] = torch.stack([_as_bits(layer.means) for layer in held])
    if any(layer.bias is not None for layer in held):
        biases = [layer.bias or PackedBias.of(torch.zeros(sum(layer.counts))) for layer in held]
        tensors["bias"] = torch.cat([bias.codes for bias in biases])
        tensors["bias.lines"] = torch.stack([bias.line for bias in biases])
    return tensors


def _as_bits(means: Means) -> Tensor:
    """Which means a layer has, a bit each: the keys' heads, then the values'."""
    bits = np.packbits(np.array(means, dtype=bool).reshape(-1), bitorder="little")
    return torch.from_numpy(bits)


def _from_bits(bits: Tensor, heads: int) -> Means:
    flat = np.unpackbits(bits.numpy(), bitorder="little")[: 2 * heads].astype(bool).tolist()
    return tuple(flat[:heads]), tuple(flat[heads:])


def _bits_bytes(heads: int) -> int:
    return math.ceil(2 * heads / 8)


# ---------------------------------------------------------------------- headers


def check_packed_core(header: Mapping[str, TensorEntry], manifest: Manifest) -> None:
    """Whether a core file holds what the manifest says, and nothing else; raises ValueError."""
    check = HeaderCheck(header, manifest)
    check.stream("tokens")
    counts = _check_layers(check, manifest, "core_tokens", of_core=True)
    kinds = manifest.geometry["layer_kinds"]
    for kind in dict.fromkeys(k for k, heads in zip(kinds, counts, strict=True) if heads):
        check.stream(f"rotation.{kind}.pairs")
        check.line(f"rotation.{kind}.frequencies", "F32", manifest.geometry["head_dim"] // 2)
    check.gates("F16")
    check.asked()
    check.states()
    check.nothing_else()


def check_packed_bank(header: Mapping[str, TensorEntry], manifest: Manifest) -> None:
    """Whether a bank file holds what the manifest says, and nothing else; raises ValueError."""
    check = HeaderCheck(header, manifest)
    _check_layers(check, manifest, "bank_tokens", of_core=False)
    check.nothing_else()


def _check_layers(check: HeaderCheck, manifest: Manifest, field: str, *, of_core: bool) -> Counts:
    heads, size = manifest.geometry["kv_heads"], manifest.geometry["head_dim"]
    counts = per_head(getattr(manifest, field) or [], heads)
    held = [one for one in counts if one is not None]
    if not held:
        return counts
    tokens = sum(map(sum, held))
    width = row_bytes(size, cast("Store", manifest.packing))
    fields = f"{field}, geometry.kv_heads, geometry.head_dim and packing"
    most = heads * len(held) + tokens
    if of_core and check.has("means"):
        check.take("means", ("U8",), (len(held), _bits_bytes(heads)), fields)
        for part in ("keys", "values"):
            check.rows(part, "U8", (tokens, most), width, fields)
    else:
        for part in ("keys", "values"):
            check.take(part, ("U8",), (most, width), fields)
    check.stream("index")
    check.take("index.ends", ("I64",), (len(held),), fields)
    if of_core and check.has("bias"):
        check.take("bias", ("U8",), (tokens,), fields)
        check.take("bias.lines", ("F32",), (len(held), 2), fields)
    return counts


# ---------------------------------------------------------------------- opening


class _PackedFile:
    """Packed layers in a mapped file, each read and checked when it is asked for."""

    def __init__(
        self, file: MappedFile, entries: Sequence[object], geometry: Geometry, store: Store
    ) -> None:
        self.file, self.geometry, self.store = file, geometry, store
        self.counts = per_head(list(entries), geometry.kv_heads)
        self._first: list[int] = []
        tokens = 0
        for heads in self.counts:
            self._first.append(tokens)
            tokens += sum(heads or ())

    @cached_property
    def means(self) -> list[Means]:
        """Which means each layer that keeps any has; raises DamageError where the vectors are of
        another number."""
        heads = self.geometry.kv_heads
        held = [one for one in self.counts if one is not None]
        if "means" not in self.file.header:
            return [((True,) * heads, (True,) * heads)] * len(held)
        means = [_from_bits(bits, heads) for bits in self.file.read("means")]
        tokens = sum(map(sum, held))
        for part, name in enumerate(("keys", "values")):
            wanted = tokens + sum(sum(one[part]) for one in means)
            if self.file.header[name].shape[0] != wanted:
                raise self.file.damage(f"'means' say that {name!r} has {wanted} vectors")
        return means

    def layer(self, number: int) -> PackedTokens | None:
        """A layer's tokens as they are stored, its blocks checked; raises DamageError."""
        heads = self.counts[number]
        if heads is None:
            return None
        before = sum(one is not None for one in self.counts[:number])
        first, tokens = self._first[number], sum(heads)
        means = self.means[before]
        rows = []
        for part in (0, 1):
            row = first + sum(sum(one[part]) for one in self.means[:before])
            rows.append((row, row + sum(means[part]) + tokens))
        size, store = self.geometry.head_dim, self.store
        ends = [0, *self.file.read("index.ends").tolist()]
        begin, end = ends[before], ends[before + 1]
        if not 0 <= begin <= end <= self.file.header["index"].shape[0]:
            raise self.file.damage(f"the index of layer {number} lies outside its tensor")
        bias = None
        if "bias" in self.file.header:
            codes = self.file.view("bias").between(first, first + tokens)
            line = self.file.view("bias.lines").between(before, before + 1)[0]
            if not bool(line.isfinite().all()):
                raise self.file.damage(f"a bias of layer {number} is infinite or not a number")
            bias = PackedBias(codes, line)
        return PackedTokens(
            Vectors(self.file.view("keys").between(*rows[0]), size, store),
            Vectors(self.file.view("values").between(*rows[1]), size, store),
            self.file.view("index").between(begin, end),
            bias,
            heads,
            means,
        )


def open_packed_core(
    file: MappedFile,
    manifest: Manifest,
    geometry: Geometry,
    states: Sequence[Mapping[str, Tensor] | None],
) -> PackedCore:
    """The core of a file whose blocks are checked.

    Raises:
        ValueError: a rotation that cannot be one.
        DamageError: tensors that do not fit one another.
    """
    store = cast("Store", manifest.packing)
    layers = _PackedFile(file, manifest.core_tokens, geometry, store)
    rotations: dict[LayerKind, Rotation] = {}
    for kind in geometry.layer_kinds:
        if f"rotation.{kind}.pairs" in file.header and kind not in rotations:
            frequencies = file.read(f"rotation.{kind}.frequencies")
            pairs = inflated(file.read(f"rotation.{kind}.pairs"), (3, len(frequencies)))
            rotations[kind] = Rotation(pairs, frequencies)
            rotations[kind].check(geometry.head_dim, geometry.position_rows)
    table = PackedTable(file.read("tokens"), geometry.position_rows, manifest.logical_length)
    return PackedCore(
        tuple(layers.layer(number) for number in range(geometry.layers)),
        Unpacking(table, rotations, geometry.layer_kinds, getattr(torch, manifest.dtype)),
        tuple(
            file.read(f"gate.{number}") if f"gate.{number}" in file.header else None
            for number in range(geometry.layers)
        ),
        tuple(states),
        store,
        read_asked(file, geometry.layers),
    )


def open_packed_bank(
    file: MappedFile, manifest: Manifest, geometry: Geometry, core: PackedCore
) -> list[PackedBankLayer | None]:
    """The layers of a bank, each read, checked and unpacked when it is first searched."""
    store = cast("Store", manifest.packing)
    layers = _PackedFile(file, manifest.bank_tokens or [], geometry, store)

    def opened(number: int, heads: tuple[int, ...]) -> PackedBankLayer:
        def packed() -> PackedTokens:
            found = layers.layer(number)
            assert found is not None
            return found

        def plain() -> LayerTokens:
            try:
                tokens = core.unpacking.plain(number, packed())
                check_layer(tokens, manifest.logical_length, f"layer {number} of the bank")
            except (ValueError, KeyError) as error:
                raise file.damage(str(error)) from error
            return tokens

        rows = len(heads) + sum(heads)
        nbytes = 2 * rows * row_bytes(geometry.head_dim, store)
        return PackedBankLayer(packed, plain, heads, core.unpacking.dtype, nbytes)

    return [
        None if heads is None else opened(number, heads)
        for number, heads in enumerate(layers.counts)
    ]
