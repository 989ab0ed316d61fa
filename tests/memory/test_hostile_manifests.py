"""Every field of a manifest, changed by hand and given a valid digest: refused with a sentence, or
without any effect on answers. Never a raw error, never a wait, never a large allocation."""

import copy
import hashlib
import json
import os
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import tasm
from tasm.backbone.attention.hooks import attach
from tasm.errors import DamageError, FormatError, TasmError
from tests.memory.memories import packed_memory, task_memory
from tests.memory.test_files import listing, rewrite, with_bytes

IDS = torch.arange(1, 7)[None]
# Free text and figures that are shown but decide nothing, or decide what a person may well choose.
CHOICES = {
    "gate.kind", "gate.epsilon", "gate.layers", "gate.top_k", "gate.largest_share", "gate.asking",
    "gate.granularity", "gate.interval", "gate.thresholds", "gate.step_thresholds",
    "geometry.sliding_window", "gate",
}  # fmt: skip

LEAVES: list[Any] = [
    None, True, -1, 0, 1, 1.5, 2**31, 10**9, 2**70, 10**300, -1e308, 1e308, float("nan"),
    float("inf"), "", "x", "../x", "/etc/passwd", "https://example.org/x.png", "\ud800", "a\0b",
    "y" * 300_000, [], [[]], {}, {"a": 1}, [None] * 1000,
]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    config = LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=2, **sizes
    )
    hf = LlamaForCausalLM(config).eval()
    attach(hf)
    return hf


@pytest.fixture(scope="module", params=[task_memory, packed_memory], ids=["plain", "packed"])
def sound(tmp_path_factory, request) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "m.tasm"
    memory = request.param(core=(5, 3), bank=(6, 6), total=24, bias=True)
    memory.save(folder, pictures={"e" * 64: b"\xff\xd8\xff" + bytes(20)})
    return folder


def places(value: Any, above: tuple = ()) -> Iterator[tuple]:
    """Every place in a JSON document, the first and last entries of lists only."""
    if above:
        yield above
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from places(entry, (*above, name))
    elif isinstance(value, list):
        for number in sorted({0, len(value) - 1}) if value else ():
            yield from places(value[number], (*above, number))


def changed(document: dict, place: tuple, change: Callable[[Any, Any], None]) -> bytes:
    made = copy.deepcopy(document)
    holder = made
    for step in place[:-1]:
        holder = holder[step]
    change(holder, place[-1])
    made["digest"] = "0" * 64
    return signed(json.dumps(made, indent=1).encode() + b"\n")


def signed(text: bytes) -> bytes:
    head = len(b'{\n "digest": "')
    blank = text[:head] + b"0" * 64 + text[head + 64 :]
    return blank[:head] + hashlib.sha256(blank).hexdigest().encode() + blank[head + 64 :]


def forward(memory, model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, past_key_values=memory.cache()).logits


def outcome(folder: Path, model) -> tuple[str, Any]:
    """Open, show, verify and use a memory: what it answers, or the sentence that refuses."""
    started = time.perf_counter()
    try:
        memory = tasm.load(folder)
        json.dumps(memory.public()).encode()
        memory.check_all()
        found = ("answers", forward(memory, model))
    except TasmError as error:
        str(error).encode()
        found = ("refused", str(error))
    assert time.perf_counter() - started < 2
    return found


def changes(document: dict) -> Iterator[tuple[tuple, str, bytes]]:
    number = 0
    for place in places(document):
        if place == ("digest",):
            continue
        name = ".".join(str(step) for step in place)
        yield place, f"{name} deleted", changed(document, place, lambda holder, at: holder.pop(at))
        if isinstance(place[-1], int):
            yield (
                place,
                f"{name} twice",
                changed(document, place, lambda holder, at: holder.append(holder[at])),
            )
        is_top = len(place) <= 2
        for leaf in LEAVES:
            number += 1
            if not is_top and number % 3:  # a third of the deeper ones, always the same
                continue

            def put(holder, at, leaf=leaf):
                holder[at] = leaf

            yield place, f"{name} = {leaf!r:.40}", changed(document, place, put)


def test_every_field_changed_is_refused_or_without_effect(sound, model, tmp_path):
    folder = tmp_path / "m.tasm"
    folder.symlink_to(sound)
    right = forward(tasm.load(sound), model)
    document = json.loads((sound / "memory.json").read_bytes())
    whole = (sound / "memory.json").read_bytes()
    refused = answered = 0
    faults: list[str] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for place, name, data in changes(document):
                (sound / "memory.json").write_bytes(data)
                kind, found = outcome(folder, model)
                if kind == "refused":
                    refused += 1
                    steps = [str(step) for step in place if isinstance(step, str)]
                    is_named = any(step in found.replace(" ", "_") for step in steps)
                    if not is_named and "JSON" not in found:
                        faults.append(f"{name}: {found}")
                else:
                    answered += 1
                    is_choice = any(
                        ".".join(map(str, place)).startswith(choice) for choice in CHOICES
                    )
                    if not is_choice and not torch.equal(found, right):
                        faults.append(f"{name} gave another answer")
    finally:
        (sound / "memory.json").write_bytes(whole)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 100e6
    assert not faults, "\n".join(faults)
    assert refused > 1000 and answered > 100, (refused, answered)


def test_every_key_twice_is_refused(sound, tmp_path):
    whole = (sound / "memory.json").read_bytes()
    document = json.loads(whole)
    lines = whole.decode().splitlines()
    names = {place[-1] for place in places(document) if isinstance(place[-1], str)} - {"digest"}
    for name in names:
        at = next(n for n, line in enumerate(lines) if line.strip().startswith(f'"{name}":'))
        twice = [*lines[:at], f'"{name}": 0,', *lines[at:]]
        (tmp_path / "memory.json").write_bytes(signed("\n".join(twice).encode()))
        with pytest.raises(DamageError, match=f"{name}.* stands twice"):
            tasm.load(tmp_path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (b"[" * 100_000, "nest too deep|not JSON"),
        (b'"x": ' + b"[" * 100_000 + b"]" * 100_000, "nest too deep|not JSON"),
        (b'"x": NaN', "NaN"),
        (b'"x": 1' + b"0" * 5000, "not JSON"),
    ],
)
def test_json_that_is_no_manifest_is_refused(tmp_path, more, said):
    text = b'{\n "digest": "' + b"0" * 64 + b'",\n "format": "tasm memory", ' + more + b"}"
    (tmp_path / "memory.json").write_bytes(signed(text))
    with pytest.raises((DamageError, FormatError), match=said):
        tasm.load(tmp_path)


def test_trailing_data_are_refused(sound, tmp_path):
    data = (sound / "memory.json").read_bytes()
    (tmp_path / "memory.json").write_bytes(signed(data + b"{}"))
    with pytest.raises(DamageError, match="not JSON"):
        tasm.load(tmp_path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("format_version", True),
        ("logical_length", -1),
        ("next_position", 10**9),
        ("geometry.position_rows", 0),
        ("geometry.position_rows", 10**9),
        ("geometry.position_rows", 3),
        ("geometry.kv_heads", 10**9),
        ("geometry.kv_heads", 1),
        ("geometry.layers", 10**9),
        ("geometry.layer_kinds", ["linear", "linear"]),
        ("geometry.layer_kinds", ["full", "sparse"]),
        ("geometry.layer_kinds", ["full", "sliding"]),
        ("gate.granularity", 0),
        ("gate.top_k", 1.5),
        ("gate.thresholds", [float("nan"), 0.1]),
        ("gate.thresholds", None),
        ("layout.max_pixels", -1),
        ("model.path", 5),
        ("model.path", "file:///etc/passwd"),
        ("bank_tokens", None),
        ("core_tokens", [10**18, 5]),
        ("files.bank", None),
        ("files.core.bytes", 2**60),
        ("demonstrations.0.spans", [[0, 10**9]]),
        ("demonstrations.0.spans", [[9, 8]]),
        ("demonstrations.0.pictures.0.thumbnail", "../memory.json"),
        ("demonstrations.0.origin", "/etc/passwd"),
        ("demonstrations", None),
        ("recipe.settings", 5),
        ("recipe.name", None),
        ("report", json.loads('{"a":' * 40 + "0" + "}" * 40)),
    ],
)
def test_faults_once_accepted_are_refused_by_name(tmp_path, place, value):
    task_memory(total=24).save(tmp_path / "m.tasm", pictures={"e" * 64: b"\xff\xd8\xff"})

    def change(document):
        steps = [int(step) if step.isdigit() else step for step in place.split(".")]
        for step in steps[:-1]:
            document = document[step]
        document[steps[-1]] = value

    rewrite(tmp_path / "m.tasm", change)
    field = place.split(".")[-1]
    started = time.perf_counter()
    with pytest.raises(TasmError, match=f"{field}|NaN"):
        _ = tasm.load(tmp_path / "m.tasm").core
    assert time.perf_counter() - started < 1


# ---------------------------------------------------------------------- the tensor files


def edited(folder: Path, kind: str, change: Callable[[dict, bytearray], None]) -> None:
    """Change a tensor file's header and data, and let all hashes agree."""
    data = next(folder.glob(f"{kind}-*")).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, content = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    change(header, content)
    text = json.dumps(header).encode()
    with_bytes(folder, kind, len(text).to_bytes(8, "little") + text + bytes(content))


def put(name: str, value: float | int, dtype: torch.dtype, at: int = 0):
    def change(header: dict, content: bytearray) -> None:
        entry = header[name]
        flat = torch.frombuffer(content, dtype=dtype, offset=entry["data_offsets"][0], count=at + 1)
        flat[at] = value

    return change


def move(name: str, by: int):
    def change(header: dict, content: bytearray) -> None:
        header[name]["data_offsets"] = [at + by for at in header[name]["data_offsets"]]

    return change


def grow(header: dict, content: bytearray) -> None:
    content.extend(bytes(8))


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("core", put("layers.0.keys", float("nan"), torch.float32, 7), "key of layer 0.*number"),
        ("core", put("layers.1.values", float("inf"), torch.float32), "value of layer 1"),
        ("core", put("layers.0.index", -1, torch.int32), "tokens -1 to"),
        ("core", put("layers.0.index", 64, torch.int32), "to 64; the table has 64"),
        ("core", put("gate.0", float("nan"), torch.float32), "reference of layer 0"),
        ("core", put("gate.0", -1.0, torch.float32), "reference of layer 0"),
        ("core", put("tokens.roles", 9, torch.uint8), "role 9"),
        ("core", put("tokens.demonstration", 99, torch.int32), "demonstrations"),
        ("core", put("tokens.demonstration", -5, torch.int32), "below -1"),
        ("core", put("tokens.place", 32_000, torch.int16), "place 32000"),
        ("core", put("tokens.positions", 10**9, torch.int32), "next_position"),
        ("core", put("tokens.positions", -3, torch.int32), "next_position"),
        ("core", move("layers.0.keys", 64), "overlaps|hole"),
        ("core", move("layers.0.keys", -64), "overlaps|hole|place"),
        ("core", lambda header, content: header.pop("layers.1.index"), "hole|end"),
        ("core", grow, "tensors end"),
        ("core", lambda header, content: header["layers.0.keys"].update(shape=[2, 96]), "keys"),
        ("core", lambda header, content: header["layers.0.keys"].update(dtype="I32"), "keys"),
        ("core", lambda header, content: header["gate.0"].update(shape=[True, 24]), "shape"),
        ("bank", put("layers.0.keys", float("nan"), torch.float32), "key of a layer"),
        ("bank", put("layers.1.index", -7, torch.int32), "tokens -7 to"),
        ("bank", put("layers.1.index", 10**6, torch.int32), "1000000"),
        ("bank", move("layers.1.index", 4), "overlaps|hole"),
    ],
)
def test_tensors_that_cannot_be_are_refused(tmp_path, kind, change, said):
    task_memory().save(tmp_path / "m.tasm")
    edited(tmp_path / "m.tasm", kind, change)
    with pytest.raises(DamageError, match=said):
        tasm.load(tmp_path / "m.tasm").check_all()


def test_a_search_refuses_what_cannot_be_in_a_bank(tmp_path):
    task_memory().save(tmp_path / "m.tasm")
    for at in range(20):
        edited(tmp_path / "m.tasm", "bank", put("layers.0.index", 10**6, torch.int32, at))
    memory = tasm.load(tmp_path / "m.tasm")
    query = torch.randn(1, 2, 2, 8, generator=torch.Generator().manual_seed(9))
    with pytest.raises(DamageError, match="what a search brought"):
        memory.cache(gate="always").extra(0, query, 0.4)


def test_two_hundred_damaged_bytes_are_refused_or_harmless(sound, model, tmp_path):
    """Anywhere in any file, digests left as they were."""
    folder = tmp_path / "m.tasm"
    task_memory(core=(5, 3), bank=(6, 6), total=24, bias=True).save(folder)
    right = forward(tasm.load(folder), model)
    files = listing(folder)
    generator = torch.Generator().manual_seed(0)

    def draw(below: int) -> int:
        return int(torch.randint(below, (1,), generator=generator))

    refused = 0
    for _ in range(200):
        name = sorted(files)[draw(len(files))]
        data = bytearray(files[name])
        at, how = draw(len(data)), draw(3)
        if how == 0:
            data[at] ^= 1 << draw(8)
        elif how == 1:
            del data[at]
        else:
            data.insert(at, draw(256))
        (folder / name).write_bytes(data)
        kind, found = outcome(folder, model)
        refused += kind == "refused"
        assert kind == "refused" or torch.equal(found, right)
        (folder / name).write_bytes(files[name])
    assert refused == 200 or refused > 190


@pytest.mark.parametrize("name", ["memory.json", "core", "pictures"])
def test_pipes_are_never_waited_for(tmp_path, name):
    task_memory().save(tmp_path / "m.tasm", pictures={"e" * 64: b"\xff\xd8\xff"})
    path = next(path for path in (tmp_path / "m.tasm").rglob("*.*") if name in str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DamageError, match="no ordinary file"):
        tasm.load(tmp_path / "m.tasm").check_all()


def test_what_nothing_could_read_is_not_written(tmp_path):
    memory = task_memory()
    keys = memory.core[0].keys.clone()
    keys[0, 0, 0] = float("nan")
    broken = memory.replaced(core=[replace(memory.core[0], keys=keys), memory.core[1]])
    with pytest.raises(tasm.errors.InputError, match="key of layer 0 is infinite or not a number"):
        broken.save(tmp_path / "m.tasm")
    with pytest.raises(tasm.errors.InputError, match="next_position"):
        memory.replaced(next_position=5).save(tmp_path / "m.tasm")
    with pytest.raises(tasm.errors.InputError, match="logical_length"):
        memory.replaced(logical_length=-1).save(tmp_path / "m.tasm")
    assert list(tmp_path.iterdir()) == []
