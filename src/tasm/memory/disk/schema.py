"""What `memory.json` may say: every field's type and range, and how fields must agree.

The one place where a manifest is judged, when it is read and before it is written, so that what a
hand or a program put there is refused before anything is allocated or looped over. Knows JSON
values only; whether the files agree with them is `headers.py`'s business.
"""

from collections.abc import Mapping
from typing import Any, get_args

from tasm.arguments import GateKind
from tasm.backbone.geometry import LayerKind
from tasm.memory.disk.rules import (
    Rule,
    Wrong,
    anything,
    either,
    fields,
    list_of,
    map_of,
    null_or,
    number,
    one_of,
    text,
    truth,
    whole,
)
from tasm.memory.packing.vectors import STORES
from tasm.memory.retrieval.gate import Asking
from tasm.memory.retrieval.granularity import GRANULARITIES

FORMAT = "tasm memory"
FORMAT_VERSION = 2
PLAIN_VERSION = 1
"""What a memory is that holds keys and values as numbers of its dtype; a packed one is 2."""
_STORED_DTYPES = ("float32", "float16", "bfloat16")
"""What keys and values may be stored as."""

_TOKENS = 2**31 - 1
_BYTES = 2**60
_LAYERS = 10_000
_HEADS = 65_536
_LIST = 10_000_000
_SHA256 = text(pattern=r"[0-9a-f]{64}", called="64 hexadecimal digits")
_SHORT = text(longest=10_000)
_LONG = text(longest=16_000_000)
_HINT = text(
    longest=10_000,
    # No root, no drive's root, no address: hints are relative to the memory's folder.
    pattern=r"(?![/\\])(?![A-Za-z][A-Za-z0-9+.-]*://)[^\x00-\x1f]*",
    called="a path relative to the memory's folder",
)
_PICTURE = r"[0-9a-f]{64}\.(jpg|png)"
_COUNTS = list_of(
    null_or(either(whole(0, _TOKENS), list_of(whole(0, _TOKENS), _HEADS))), longest=_LAYERS
)
_NATS = null_or(list_of(null_or(number(0, 1e6)), longest=_LAYERS))

_FILE = {
    "bytes": whole(1, _BYTES),
    "sha256": _SHA256,
    "blocks": text(longest=100_000_000, pattern=r"[A-Za-z0-9+/]*={0,2}", called="base64"),
}


def _file(kind: str) -> Rule:
    name = text(pattern=kind + r"-[0-9a-f]{16}\.safetensors", called=f"'{kind}-HASH.safetensors'")
    return fields({"name": name, **_FILE})


_SPAN = list_of(whole(0, _TOKENS), longest=2, shortest=2)
_DEMONSTRATION = fields(
    {
        "id": _SHORT,
        "spans": list_of(_SPAN, _LIST),
        "content_hash": _SHA256,
        "pictures": list_of(
            fields(
                {"sha256": _SHA256},
                {
                    "path": null_or(_HINT),
                    "thumbnail": null_or(text(pattern=_PICTURE, called="a thumbnail's name")),
                },
            ),
            _LIST,
        ),
    },
    {
        "origin": null_or(_HINT),
        "question": null_or(_LONG),
        "answer": null_or(_LONG),
        "earlier": list_of(_LONG, _LIST),
        "text_ends": list_of(list_of(whole(0, _BYTES), _LIST), _LIST),
    },
)

_GATE = fields(
    {},
    {
        "kind": one_of(*get_args(GateKind)),
        "epsilon": either(one_of("calibrated"), number(0, 1e6)),
        "layers": null_or(list_of(whole(0, _LAYERS), _LAYERS)),
        "top_k": whole(0, _TOKENS),
        "largest_share": number(0, 1),
        "granularity": one_of(*GRANULARITIES),
        "asking": one_of(*get_args(Asking)),
        "interval": whole(1, _TOKENS),
        "first_steps": null_or(whole(1, _TOKENS)),
        "thresholds": _NATS,
        "step_thresholds": _NATS,
    },
    unknown="refused",
)

_DOCUMENT = fields(
    {
        "digest": _SHA256,
        "format": one_of(FORMAT),
        "format_version": whole(1, FORMAT_VERSION),
        "versions": map_of(_SHORT),
        "model": fields(
            {"identity": map_of(_SHORT)},
            {
                "name": null_or(_SHORT),
                "path": null_or(_HINT),
                "vision_memory": null_or(_HINT),
                "environment": null_or(map_of(null_or(_SHORT))),
            },
        ),
        "geometry": fields(
            {
                "layers": whole(1, _LAYERS),
                "kv_heads": whole(1, _HEADS),
                "query_heads": whole(1, _HEADS),
                "head_dim": whole(1, _HEADS),
                "layer_kinds": list_of(one_of(*get_args(LayerKind)), longest=_LAYERS),
                "sliding_window": null_or(whole(1, _TOKENS)),
                "max_positions": null_or(whole(1, 2**53)),
                "position_rows": one_of(1, 3),
            },
            unknown="refused",
        ),
        "dtype": one_of(*_STORED_DTYPES),
        "recipe": anything({"name": _SHORT, "settings": anything({})}),
        "layout": fields(
            {},
            {
                "system": null_or(_LONG),
                "max_pixels": null_or(whole(1, 2**53)),
                "multi_image": truth,
            },
            unknown="refused",
        ),
        "next_position": whole(0, _TOKENS),
        "logical_length": whole(0, _TOKENS),
        "core_tokens": _COUNTS,
        "bank_tokens": null_or(_COUNTS),
        "gate": _GATE,
        "demonstrations": list_of(_DEMONSTRATION, _LIST),
        "sizes": fields(
            {"full": whole(0, _BYTES)}, {"core": whole(0, _BYTES), "bank": whole(0, _BYTES)}
        ),
        "report": anything({}),
        "files": fields(
            {"core": _file("core")},
            {
                "bank": null_or(_file("bank")),
                "index": null_or(_file("index")),
                "pictures": list_of(
                    fields(
                        {
                            "name": text(pattern=_PICTURE, called="a picture's hash and kind"),
                            "bytes": whole(1, 2**31),
                            "sha256": _SHA256,
                        }
                    ),
                    _LIST,
                ),
            },
        ),
    },
    {"packing": null_or(one_of(*STORES))},
)


def check_document(document: Mapping[str, Any]) -> list[str]:
    """Judge a manifest's JSON object; returns the names of fields that are unknown and harmless.

    Raises:
        Wrong: names the field, what it is, and what was expected.
    """
    unknown: list[str] = []
    _DOCUMENT(document, "", unknown)
    is_packed = document.get("packing") is not None
    if is_packed != (document["format_version"] > PLAIN_VERSION):
        expected = f"{FORMAT_VERSION} if, and only if, there is a packing, else {PLAIN_VERSION}"
        raise Wrong("format_version", document["format_version"], expected)
    _check_geometry(document["geometry"])
    _check_layers(document)
    _check_files(document)
    _check_demonstrations(document)
    return unknown


def _check_geometry(geometry: Mapping[str, Any]) -> None:
    kinds, heads = geometry["layer_kinds"], geometry["kv_heads"]
    if len(kinds) != geometry["layers"]:
        raise Wrong(
            "geometry.layer_kinds",
            kinds,
            f"one for each layer (geometry.layers: {geometry['layers']})",
        )
    if geometry["query_heads"] % heads:
        raise Wrong("geometry.query_heads", geometry["query_heads"], f"a multiple of {heads}")
    if set(kinds) == {"linear"}:
        raise Wrong("geometry.layer_kinds", kinds, "a layer that is not 'linear'")
    window = geometry["sliding_window"]
    if (window is None) == ("sliding" in kinds):
        raise Wrong(
            "geometry.sliding_window",
            window,
            "a number if, and only if, geometry.layer_kinds has 'sliding'",
        )


def _check_layers(document: Mapping[str, Any]) -> None:
    """Lists with an entry a layer, or a head, have as many as the geometry says."""
    geometry, gate = document["geometry"], document["gate"]
    lists = {
        "core_tokens": document["core_tokens"],
        "bank_tokens": document["bank_tokens"],
        "gate.thresholds": gate.get("thresholds"),
        "gate.step_thresholds": gate.get("step_thresholds"),
    }
    for name, entries in lists.items():
        if entries is None:
            continue
        if len(entries) != geometry["layers"]:
            expected = f"one entry for each layer (geometry.layers: {geometry['layers']})"
            raise Wrong(name, entries, expected)
        for layer, entry in enumerate(entries):
            if isinstance(entry, list) and len(entry) != geometry["kv_heads"]:
                expected = (
                    f"one number for each KV head (geometry.kv_heads: {geometry['kv_heads']})"
                )
                raise Wrong(f"{name}[{layer}]", entry, expected)
            if (
                entry is not None
                and name.endswith("_tokens")
                and geometry["layer_kinds"][layer] == "linear"
            ):
                raise Wrong(f"{name}[{layer}]", entry, "null, because this layer is 'linear'")
    if gate.get("step_thresholds") is not None and gate.get("thresholds") is None:
        raise Wrong("gate.thresholds", None, "a list, because there are step_thresholds")
    for place, layer in enumerate(gate.get("layers") or []):
        if layer >= geometry["layers"]:
            raise Wrong(f"gate.layers[{place}]", layer, f"less than {geometry['layers']}")


def _check_files(document: Mapping[str, Any]) -> None:
    files = document["files"]
    bank = files.get("bank")
    if (bank is None) != (document["bank_tokens"] is None):
        raise Wrong(
            "bank_tokens", document["bank_tokens"], "null if, and only if, files.bank is null"
        )
    if bank is None and files.get("index") is not None:
        raise Wrong("files.index", files["index"]["name"], "null, because files.bank is null")
    for kind in ("core", "bank", "index"):
        record = files.get(kind)
        hash_ = None if record is None else record["name"].removeprefix(f"{kind}-")[:16]
        if record is not None and hash_ != record["sha256"][:16]:
            raise Wrong(
                f"files.{kind}.name", record["name"], "the first 16 digits of its sha256 in it"
            )
    names = [picture["name"] for picture in files.get("pictures", [])]
    if len(set(names)) != len(names):
        raise Wrong("files.pictures", names, "every name once")


def _check_demonstrations(document: Mapping[str, Any]) -> None:
    tokens = document["logical_length"]
    thumbnails = {picture["name"] for picture in document["files"].get("pictures", [])}
    for number_, entry in enumerate(document["demonstrations"]):
        for place, (start, end) in enumerate(entry["spans"]):
            if not start <= end <= tokens:
                raise Wrong(
                    f"demonstrations[{number_}].spans[{place}]",
                    [start, end],
                    f"a start and an end within the tokens (logical_length: {tokens})",
                )
        for place, picture in enumerate(entry["pictures"]):
            thumbnail = picture.get("thumbnail")
            if thumbnail is not None and thumbnail not in thumbnails:
                field = f"demonstrations[{number_}].pictures[{place}].thumbnail"
                raise Wrong(field, thumbnail, "a name from files.pictures")
