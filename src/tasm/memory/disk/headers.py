"""The header of a tensor file: read strictly, and held against the memory's manifest.

A safetensors file says of each tensor its type, its shape and where it lies. Here that must be
exactly what the manifest's geometry and counts ask for, without overlaps, holes or anything else.
Knows headers and manifests; reads no tensor.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasm.memory.disk.blocks import DTYPES
from tasm.memory.disk.json_strict import read_json
from tasm.memory.disk.manifest import Manifest

LARGEST_HEADER = 1 << 22
_LONGEST = 2**40
_STATE = re.compile(r"states\.(\d{1,5})\.(conv|recurrent)\.\d{1,3}")
_STORED = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_FLOATS = tuple(_STORED.values())


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file: its type, its shape, its first byte and the one after its last, counted
    from where the data begin."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def parse_header(data: bytes, data_bytes: int) -> dict[str, TensorEntry]:
    """The tensors of a file from its header; `data_bytes` are what follows it.

    Raises:
        ValueError: a sentence about what cannot be.
    """
    document = read_json(data)
    if not isinstance(document, dict):
        raise ValueError("it is no object")
    document.pop("__metadata__", None)
    entries = {name: _entry(name, entry) for name, entry in document.items()}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != end:
            what = "overlaps another tensor" if entry.start < end else "comes after a hole"
            raise ValueError(f"{name[:60]!a} {what}")
        end = entry.stop
    if end != data_bytes:
        raise ValueError(f"its tensors end at byte {end}, the file at {data_bytes}")
    return entries


def _entry(name: str, entry: Any) -> TensorEntry:
    shown = f"{name[:60]!a}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{shown} must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{shown} is of an unknown type")
    if not _are_counts(shape) or len(shape) > 8 or not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{shown} has an impossible shape or place")
    start, stop = offsets
    size = DTYPES[dtype].itemsize
    if stop - start != math.prod(shape) * size or start % size:
        raise ValueError(f"{shown}: offsets {start} to {stop} do not fit its shape")
    return TensorEntry(dtype, tuple(shape), start, stop)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(entry) is int and 0 <= entry < 2**60 for entry in value
    )


# ---------------------------------------------------------------------- against the manifest


class HeaderCheck:
    """A header held against a manifest, tensor by tensor; every method raises ValueError, with the
    tensor's name and the manifest's fields that it does not fit."""

    def __init__(self, header: Mapping[str, TensorEntry], manifest: Manifest) -> None:
        self._left = dict(header)
        self._manifest = manifest

    def has(self, name: str) -> bool:
        """Whether there is a tensor of that name that was not taken yet."""
        return name in self._left

    def take(self, name: str, dtypes: tuple[str, ...], shape: tuple[int, ...], fields: str) -> None:
        """There is this tensor, of one of these types and of this shape, as `fields` say."""
        entry = self._found(name, fields)
        if entry.dtype not in dtypes or entry.shape != shape:
            raise ValueError(
                f"{name!r} is {entry}; {fields} of the manifest say {dtypes[0]} {list(shape)}"
            )

    def rows(
        self, name: str, dtype: str, between: tuple[int, int], width: int, fields: str
    ) -> None:
        """There is this tensor of rows of a width, and their number lies between the two."""
        entry, (least, most) = self._found(name, fields), between
        fits = len(entry.shape) == 2 and least <= entry.shape[0] <= most
        if entry.dtype != dtype or not fits or entry.shape[1] != width:
            raise ValueError(
                f"{name!r} is {entry}; {fields} of the manifest say {dtype} [{least} to {most}, "
                f"{width}]"
            )

    def floats(self, name: str, shape: tuple[int, ...], fields: str) -> None:
        """There is this tensor, of the memory's dtype and of this shape."""
        self.take(name, (_STORED[self._manifest.dtype],), shape, fields)

    def stream(self, name: str) -> None:
        """There is this tensor of bytes, of any length."""
        self.line(name, "U8", _LONGEST)

    def line(self, name: str, dtype: str, longest: int) -> None:
        """There is this tensor of one dimension, no longer than that."""
        entry = self._found(name, "packing")
        if entry.dtype != dtype or len(entry.shape) != 1 or entry.shape[0] > longest:
            raise ValueError(f"{name!r} is {entry}; expected {dtype} [at most {longest}]")

    def _found(self, name: str, fields: str) -> TensorEntry:
        entry = self._left.pop(name, None)
        if entry is None:
            raise ValueError(f"it holds no tensor {name!r}; {fields} of the manifest ask for it")
        return entry

    def gates(self, dtype: str) -> None:
        """The gate's references that there are fit their layers."""
        manifest, heads = self._manifest, self._manifest.geometry["kv_heads"]
        if manifest.gate.get("thresholds") is None:
            return
        for layer, count in enumerate(manifest.core_tokens):
            if f"gate.{layer}" in self._left and count is not None:
                longest = max(count) if isinstance(count, list) else count
                fields = f"core_tokens[{layer}] and geometry.kv_heads"
                self.take(f"gate.{layer}", (dtype,), (heads, longest), fields)

    def asked(self) -> None:
        """The queries that are kept for the gate, where there are any, fit their layers."""
        if "asked.index" not in self._left:
            return
        rows = self._left["asked.index"].shape
        if len(rows) != 1 or rows[0] > self._manifest.logical_length:
            raise ValueError(
                f"'asked.index' is {self._left['asked.index']}; expected I32 [at most "
                f"{self._manifest.logical_length}], as logical_length of the manifest says"
            )
        self.take("asked.index", ("I32",), rows, "logical_length")
        geometry = self._manifest.geometry
        for layer, kind in enumerate(geometry["layer_kinds"]):
            if kind == "full" and f"asked.{layer}" in self._left:
                shape = (geometry["query_heads"], rows[0], geometry["head_dim"])
                fields = "geometry.query_heads and geometry.head_dim"
                self.take(f"asked.{layer}", ("F16",), shape, fields)

    def states(self) -> None:
        """Every linear layer has a state, and no other layer."""
        for layer, kind in enumerate(self._manifest.geometry["layer_kinds"]):
            if kind != "linear":
                continue
            matches = [_STATE.fullmatch(name) for name in self._left]
            names = [one[0] for one in matches if one is not None and one[1] == str(layer)]
            for name in names:
                entry = self._left.pop(name)
                if entry.dtype not in _FLOATS or not entry.shape or entry.shape[0] != 1:
                    raise ValueError(f"{name!r} is {entry}; expected the state of one row")
            if not names:
                raise ValueError(
                    f"it holds no state of layer {layer}; geometry.layer_kinds says 'linear'"
                )

    def nothing_else(self) -> None:
        """Every tensor was taken."""
        for name in self._left:
            raise ValueError(
                f"it holds a tensor {name[:60]!a} of which the manifest does not know "
                "(geometry.layer_kinds, core_tokens, bank_tokens, gate.thresholds)"
            )


def check_core_header(header: Mapping[str, TensorEntry], manifest: Manifest) -> None:
    """Whether the core file holds what the manifest says, and nothing else.

    Raises:
        ValueError: names the tensor, and the manifest's fields that it does not fit.
    """
    tokens, check = manifest.logical_length, HeaderCheck(header, manifest)
    rows = manifest.geometry["position_rows"]
    of_tokens = "logical_length and geometry.position_rows"
    check.take("tokens.positions", ("I32",), (rows, tokens), of_tokens)
    check.take("tokens.roles", ("U8",), (tokens,), "logical_length")
    check.take("tokens.demonstration", ("I32",), (tokens,), "logical_length")
    check.take("tokens.place", ("I16",), (tokens, 4), "logical_length")
    _take_layers(check, manifest, "core_tokens", with_bias=True)
    check.gates("F32")
    check.asked()
    check.states()
    check.nothing_else()


def check_bank_header(header: Mapping[str, TensorEntry], manifest: Manifest) -> None:
    """Whether the bank file holds what the manifest says, and nothing else; raises ValueError."""
    check = HeaderCheck(header, manifest)
    _take_layers(check, manifest, "bank_tokens", with_bias=False)
    check.nothing_else()


def _take_layers(check: HeaderCheck, manifest: Manifest, field: str, *, with_bias: bool) -> None:
    heads, size = manifest.geometry["kv_heads"], manifest.geometry["head_dim"]
    stored = (_STORED[manifest.dtype],)
    for layer, count in enumerate(getattr(manifest, field)):
        if count is None:
            continue
        name, fields = f"layers.{layer}", f"{field}[{layer}] and geometry.kv_heads"
        shape: tuple[int, ...]
        if check.has(f"{name}.offsets"):
            check.take(f"{name}.offsets", ("I64",), (heads + 1,), "geometry.kv_heads")
            shape = (sum(count) if isinstance(count, list) else heads * count,)
        elif isinstance(count, list) and len(set(count)) != 1:
            raise ValueError(f"it holds no '{name}.offsets'; {field}[{layer}] says so")
        else:
            shape = (heads, count[0] if isinstance(count, list) else count)
        for part in ("keys", "values"):
            every = f"{fields}, geometry.head_dim and dtype"
            check.take(f"{name}.{part}", stored, (*shape, size), every)
        check.take(f"{name}.index", ("I32",), shape, fields)
        if with_bias and check.has(f"{name}.bias"):
            check.take(f"{name}.bias", ("F32",), shape, fields)
