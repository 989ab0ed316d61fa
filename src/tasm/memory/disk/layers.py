"""Layers that lie in a memory's files: how their tensors are named there, how they are opened and
held against what the manifest says of them.

Equal numbers of tokens over the heads lie as (kv_heads, tokens, …); different ones are packed head
after head, with offsets. Knows manifests and mapped files; nothing of folders, caches or gates.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.geometry import Geometry
from tasm.memory.core_tensors import Counts
from tasm.memory.disk.headers import TensorEntry
from tasm.memory.disk.manifest import Manifest
from tasm.memory.disk.mapped_file import MappedFile, MappedTensor
from tasm.memory.disk.rules import shown
from tasm.memory.disk.soundness import check_index, check_layer, check_tokens
from tasm.memory.layer import LayerTokens


def layer_tensors(layer: int, tokens: LayerTokens) -> dict[str, Tensor]:
    """The tensors that hold a layer in a file, by name."""
    parts = {"keys": tokens.keys, "values": tokens.values, "index": tokens.index.to(torch.int32)}
    if tokens.bias is not None:
        parts["bias"] = tokens.bias.float()
    if tokens.lengths is not None:
        counts = torch.tensor(tokens.lengths)
        parts = {
            name: torch.cat(
                [head[:count] for head, count in zip(part, tokens.lengths, strict=True)]
            )
            for name, part in parts.items()
        }
        parts["offsets"] = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return {f"layers.{layer}.{name}": part for name, part in parts.items()}


@dataclass(frozen=True, eq=False)
class MappedLayer:
    """A bank layer on disk: blocks of keys are read and checked as a search touches them, values
    and indices only where it chose.

    Attributes:
        keys, values: (all heads' tokens, head_dim).
        index: (all heads' tokens,).
        bias: (all heads' tokens,) or None.
        counts: tokens of each KV head.
        tokens: of the transcript's table, which index points into.
    """

    keys: MappedTensor
    values: MappedTensor
    index: MappedTensor
    bias: MappedTensor | None
    counts: tuple[int, ...]
    tokens: int

    @classmethod
    def open(cls, file: MappedFile, layer: int, tokens: int) -> "MappedLayer":
        """Find a layer in a file; only the file's header and its offsets are read."""

        def view(part: str) -> MappedTensor:
            return file.view(f"layers.{layer}.{part}")

        parts = {part: view(part) for part in ("keys", "values", "index")}
        if f"layers.{layer}.bias" in file.header:
            parts["bias"] = view("bias")
        if f"layers.{layer}.offsets" in file.header:
            offsets = view("offsets").whole()
            counts = tuple(offsets.diff().tolist())
            sound = offsets.ndim == 1 and int(offsets[0]) == 0 and min(counts, default=-1) >= 0
        else:
            shape = parts["index"].unchecked.shape
            sound = len(shape) == 2
            counts = (int(shape[-1]),) * int(shape[0])
            parts = {
                name: replace(part, unchecked=part.unchecked.flatten(0, 1))
                for name, part in parts.items()
            }
        rows = {name: part.unchecked.shape[:1] for name, part in parts.items()}
        dimensions = [part.unchecked.ndim for part in (parts["keys"], parts["values"])]
        if not sound or dimensions != [2, 2] or any(n != (sum(counts),) for n in rows.values()):
            raise file.damage(f"the tensors of layer {layer} do not fit one another")
        keys, values, index = (parts[part] for part in ("keys", "values", "index"))
        return cls(keys, values, index, parts.get("bias"), counts, tokens)

    @property
    def device(self) -> torch.device:
        """Host memory."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Of keys and values."""
        return self.keys.unchecked.dtype

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        parts = (self.keys, self.values, self.index, self.bias)
        return sum(part.unchecked.nbytes for part in parts if part is not None)

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Let what a check of the tensors says be the file's damage."""
        try:
            yield
        except ValueError as error:
            raise self.keys.file.damage(str(error)) from error

    @property
    def _offsets(self) -> list[int]:
        offsets = [0]
        for count in self.counts:
            offsets.append(offsets[-1] + count)
        return offsets

    def block(self, start: int, stop: int) -> Tensor:
        """Keys of a range of every head, checked; shorter heads are padded with zeros."""
        heads = [
            self.keys.between(offset + min(start, count), offset + min(stop, count))
            for offset, count in zip(self._offsets, self.counts, strict=False)
        ]
        return torch.nn.utils.rnn.pad_sequence(heads, batch_first=True)

    def keys_at(self, head: int, rows: Tensor) -> Tensor:
        """Keys (rows, head_dim) of one head's rows, their blocks checked."""
        return self.keys.rows(rows + self._offsets[head])

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys, values and index of chosen rows of every head, checked."""
        packed = rows + torch.tensor(self._offsets[:-1])[None, :, None]
        # A head without tokens is asked for its row 0, which another head may own; the search
        # marks it as missing, so only the bound matters.
        packed = packed.clamp(max=max(sum(self.counts) - 1, 0))
        keys, values, index = (part.rows(packed) for part in (self.keys, self.values, self.index))
        with self._naming():
            check_tokens(keys, values, index, self.tokens, "what a search brought")
        return keys, values, index

    def indices(self) -> Tensor:
        """(kv_heads, tokens) places in the transcript, checked; zeros past a head's count."""
        index = self.index.whole()
        with self._naming():
            check_index(index, self.tokens, "a layer of the bank")
        heads = list(torch.split(index, list(self.counts)))
        return torch.nn.utils.rnn.pad_sequence(heads, batch_first=True)

    def held(self) -> LayerTokens:
        """The whole layer, checked and judged."""
        layer = self.whole()
        with self._naming():
            check_layer(layer, self.tokens, "a layer")
        return layer

    def whole(self) -> LayerTokens:
        """The whole layer, checked against its hashes only."""
        keys, values, index = self.keys.whole(), self.values.whole(), self.index.whole()
        bias = None if self.bias is None else self.bias.whole()
        counts = list(self.counts)
        if len(set(counts)) <= 1:
            shape = (len(counts), max(counts, default=0))
            return LayerTokens(
                keys=keys.view(*shape, keys.shape[-1]),
                values=values.view(*shape, values.shape[-1]),
                index=index.view(shape),
                bias=None if bias is None else bias.view(shape),
            )
        return LayerTokens.ragged(
            torch.split(keys, counts),
            torch.split(values, counts),
            torch.split(index, counts),
            None if bias is None else torch.split(bias, counts),
        )


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


def per_head(entries: Sequence[Any], kv_heads: int) -> Counts:
    """Tokens of every layer and KV head from a manifest's short form."""
    return tuple(
        None if entry is None else tuple(entry) if isinstance(entry, list) else (entry,) * kv_heads
        for entry in entries
    )


def _open_layers(
    file: MappedFile, manifest: Manifest, entries: list[Any], geometry: Geometry
) -> list[MappedLayer | None]:
    layers: list[MappedLayer | None] = []
    for number, heads in enumerate(per_head(entries, geometry.kv_heads)):
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
