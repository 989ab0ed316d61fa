"""A bank's index in a file of its own: which tensors hold it, what they must be, how it opens.

A memory without that file is searched key by key. Knows manifests and mapped files; nothing of
how leaves are chosen.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tasm.memory.disk.headers import HeaderCheck, TensorEntry
from tasm.memory.disk.layers import per_head
from tasm.memory.disk.manifest import Manifest
from tasm.memory.disk.mapped_file import MappedFile
from tasm.memory.retrieval.bank import Bank
from tasm.memory.retrieval.index.head import HeadIndex, Level
from tasm.memory.retrieval.index.layer import LayerIndex, is_large

_LEVELS = ("lists", "leaves")
_PARTS = ("centres", "spreads", "sizes")


def indexed(bank: Bank) -> tuple[Bank, list[LayerIndex | None]]:
    """Put the tokens of large layers in the order of an index; returns the bank and the indexes."""
    made = [
        LayerIndex.of(layer.held())
        if layer is not None and is_large(layer.counts)
        else (layer, None)
        for layer in bank.layers
    ]
    return Bank([layer for layer, _ in made]), [index for _, index in made]


def index_tensors(indexes: Sequence[LayerIndex | None]) -> dict[str, Tensor]:
    """The tensors of the index file, by name; the heads of a layer one after the other."""
    tensors: dict[str, Tensor] = {}
    for number, layer in enumerate(indexes):
        if layer is None:
            continue
        counts = []
        for level in _LEVELS:
            heads = [getattr(head, level) for head in layer.heads]
            counts.append([len(head.sizes) for head in heads])
            for part in _PARTS:
                parts = [getattr(head, part) for head in heads]
                tensors[f"layers.{number}.{level}.{part}"] = torch.cat(parts)
        tensors[f"layers.{number}.counts"] = torch.tensor(counts)
    return tensors


def check_index_header(header: Mapping[str, TensorEntry], manifest: Manifest) -> None:
    """Whether the index file can be one of the manifest's bank; raises ValueError."""
    check = HeaderCheck(header, manifest)
    heads, size = manifest.geometry["kv_heads"], manifest.geometry["head_dim"]
    for number, counts in enumerate(per_head(manifest.bank_tokens or [], heads)):
        name = f"layers.{number}"
        if counts is None or not check.has(f"{name}.counts"):
            continue
        check.take(f"{name}.counts", ("I64",), (2, heads), "geometry.kv_heads")
        for level in _LEVELS:
            entry = header.get(f"{name}.{level}.sizes")
            groups = entry.shape[0] if entry is not None and len(entry.shape) == 1 else 0
            if groups > sum(counts):
                raise ValueError(f"'{name}.{level}.sizes' has {groups} groups of fewer tokens")
            check.take(f"{name}.{level}.sizes", ("I32",), (groups,), "bank_tokens")
            check.take(f"{name}.{level}.spreads", ("F32",), (groups,), "bank_tokens")
            check.floats(f"{name}.{level}.centres", (groups, size), "geometry.head_dim and dtype")
    check.nothing_else()


class IndexFile:
    """The indexes of a memory on disk; a layer's are read and checked when first searched."""

    def __init__(self, file: MappedFile, manifest: Manifest) -> None:
        self.file = file
        heads = manifest.geometry["kv_heads"]
        self._counts = per_head(manifest.bank_tokens or [], heads)
        self._opened: dict[int, LayerIndex] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(entry.stop - entry.start for entry in self.file.header.values())

    def layer(self, number: int) -> LayerIndex | None:
        """The index of a layer, where it has one; raises DamageError."""
        if number not in self._opened and f"layers.{number}.counts" in self.file.header:
            self._opened[number] = self._open(number)
        return self._opened.get(number)

    def _open(self, number: int) -> LayerIndex:
        counts: list[list[int]] = self.file.read(f"layers.{number}.counts").tolist()
        levels = [
            self._level(number, level, groups)
            for level, groups in zip(_LEVELS, counts, strict=True)
        ]
        heads = tuple(HeadIndex(*level) for level in zip(*levels, strict=True))
        for head, tokens in zip(heads, self._counts[number] or (), strict=True):
            leaves, lists = head.leaves.sizes, head.lists.sizes
            if int(leaves.sum()) != tokens or int(lists.sum()) != len(leaves):
                raise self.file.damage(f"the index of layer {number} does not fit the bank")
        return LayerIndex(heads)

    def _level(self, number: int, level: str, groups: list[int]) -> list[Level]:
        centres, spreads, sizes = (
            self.file.read(f"layers.{number}.{level}.{part}") for part in _PARTS
        )
        if min(groups) < 0 or sum(groups) != len(sizes):
            raise self.file.damage(f"the {level} of layer {number} do not fit their number")
        fair = bool((sizes > 0).all() & centres.isfinite().all() & spreads.isfinite().all())
        if not fair:
            raise self.file.damage(f"the {level} of layer {number} have sizes that cannot be")
        split: list[tuple[Any, ...]] = list(
            zip(*(torch.split(part, groups) for part in (centres, spreads, sizes)), strict=True)
        )
        return [Level(*parts) for parts in split]
