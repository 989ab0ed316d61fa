"""Layers that lie in a memory's files: how their tensors are named there, how they are opened and
held against what the manifest says of them.

Equal numbers of tokens over the heads lie as (kv_heads, tokens, …); different ones are packed head
after head, with offsets. Knows manifests and mapped files; nothing of folders, caches or gates.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.geometry import Geometry
from tasm.memory.core_tensors import Counts
from tasm.memory.disk.headers import TensorEntry
from tasm.memory.disk.mapped_file import MappedFile, MappedTensor
from tasm.memory.disk.rules import shown
from tasm.memory.disk.soundness import check_index, check_layer, check_tokens
from tasm.memory.layer import LayerTokens
from tasm.memory.per_head import by_head
from tasm.memory.retrieval.bank_layer import BankLayer


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


class MappedLayer(BankLayer):
    """A bank layer on disk: blocks of keys are read and checked as a search touches them, values
    and indices only where it chose.

    Args:
        file: where it lies.
        number: the layer's.
        counts: tokens of each KV head.
        tokens: of the transcript's table, which its index points into.

    Raises:
        DamageError: its offsets are not of such counts.
    """

    def __init__(self, file: MappedFile, number: int, counts: tuple[int, ...], tokens: int) -> None:
        parts = _parts(file, number, counts)
        super().__init__(counts, parts["keys"].unchecked.dtype)
        self._keys, self._values, self._index = parts["keys"], parts["values"], parts["index"]
        self._parts = (self._keys, self._values, self._index)
        self._tokens = tokens
        self._starts = [0, *accumulate(counts)][:-1]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return sum(part.unchecked.nbytes for part in self._parts)

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Let what a check of the tensors says be the file's damage."""
        try:
            yield
        except ValueError as error:
            raise self._keys.file.damage(str(error)) from error

    def block(self, start: int, stop: int) -> Tensor:
        """Keys of a range of every head, checked; shorter heads are padded with zeros."""
        heads = [
            self._keys.between(offset + min(start, count), offset + min(stop, count))
            for offset, count in zip(self._starts, self.counts, strict=True)
        ]
        return torch.nn.utils.rnn.pad_sequence(heads, batch_first=True)

    def keys_at(self, head: int, rows: Tensor) -> Tensor:
        """Keys (rows, head_dim) of one head's rows, their blocks checked."""
        return self._keys.rows(rows + self._starts[head])

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys, values and index of chosen rows of every head, checked."""
        packed = rows + torch.tensor(self._starts)[None, :, None]
        # A head without tokens is asked for its row 0, which another head may own; the search
        # marks it as missing, so only the bound matters.
        packed = packed.clamp(max=max(sum(self.counts) - 1, 0))
        keys, values, index = (
            part.rows(packed) for part in (self._keys, self._values, self._index)
        )
        with self._naming():
            check_tokens(keys, values, index, self._tokens, "what a search brought")
        return keys, values, index

    def indices(self) -> Tensor:
        """(kv_heads, tokens) places in the transcript, checked; zeros past a head's count."""
        index = self._index.whole()
        with self._naming():
            check_index(index, self._tokens, "a layer of the bank")
        return by_head(index, self.counts)

    def held(self) -> LayerTokens:
        """The whole layer, checked and judged."""
        keys, values, index = (part.whole() for part in self._parts)
        layer = LayerTokens.of_heads(keys, values, index, self.counts)
        with self._naming():
            check_layer(layer, self._tokens, "a layer")
        return layer


def core_layers(file: MappedFile, counts: Counts) -> tuple[LayerTokens | None, ...]:
    """The core's layers, all their blocks checked; raises DamageError."""
    return tuple(
        None if heads is None else _core_layer(file, number, heads)
        for number, heads in enumerate(counts)
    )


def _core_layer(file: MappedFile, number: int, counts: tuple[int, ...]) -> LayerTokens:
    whole = {name: part.whole() for name, part in _parts(file, number, counts).items()}
    return LayerTokens.of_heads(**whole, counts=counts)


def _parts(file: MappedFile, number: int, counts: tuple[int, ...]) -> dict[str, MappedTensor]:
    """A layer's tensors by name, of all heads' tokens one after the other. The file's header has
    been held against the manifest; its offsets are held against it here."""
    prefix = f"layers.{number}."
    names = [name for name in ("keys", "values", "index", "bias") if prefix + name in file.header]
    parts = {name: file.view(prefix + name) for name in names}
    if f"{prefix}offsets" not in file.header:
        return {
            name: replace(part, unchecked=part.unchecked.flatten(0, 1))
            for name, part in parts.items()
        }
    held = file.read(f"{prefix}offsets").diff(prepend=torch.zeros(1, dtype=torch.int64)).tolist()
    if held != [0, *counts]:
        raise file.damage(
            f"layer {number} holds {shown(held[1:])} tokens of each head, the manifest says "
            f"{shown(list(counts))}"
        )
    return parts


def per_head(entries: Sequence[Any], kv_heads: int) -> Counts:
    """Tokens of every layer and KV head from a manifest's short form."""
    return tuple(
        None if entry is None else tuple(entry) if isinstance(entry, list) else (entry,) * kv_heads
        for entry in entries
    )


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
