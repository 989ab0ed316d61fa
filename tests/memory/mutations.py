"""Random damage to a memory's folder, drawn from a seed.

`python -m tests.memory.mutations --count 100000` tries many more than the tests do.
"""

import argparse
import base64
import copy
import hashlib
import json
import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import tasm
from tasm.errors import TasmError
from tests.memory.memories import packed_memory, task_memory

HEAD = len(b'{\n "digest": "')
PICTURES = {"e" * 64: b"\xff\xd8\xff" + bytes(range(200))}
MEMORIES: dict[str, Callable[[], Any]] = {
    "plain": lambda: task_memory(core=(5, 3), bank=(6, 6), total=24, bias=True),
    "int8": lambda: packed_memory("int8", core=(5, 3), bank=(6, 4), total=24, bias=True),
    "int4": lambda: packed_memory("int4", core=(4, 4), bank=(6, 6), total=24),
    "no bank": lambda: task_memory(core=(5, 5), bank=None, total=24, dtype=torch.bfloat16),
}
# What a person may well choose: another value means another answer.
CHOICES = ("gate", "geometry.sliding_window")
WARNS = ("geometry.max_positions", "geometry.query_heads")


def make(folder: Path) -> dict[str, Path]:
    """One sound memory of every kind."""
    places = {}
    for name, memory in MEMORIES.items():
        places[name] = folder / f"{name.replace(' ', '-')}.tasm"
        memory().save(places[name], pictures=PICTURES)
    return places


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def put(folder: Path, before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """Turn the files of a folder into others."""
    for name in before.keys() - after.keys():
        (folder / name).unlink()
    for name, data in after.items():
        if before.get(name) != data:
            (folder / name).write_bytes(data)


# ---------------------------------------------------------------------- damage


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut, inserted, swapped, zeroed or repeated."""
    start, length = rng.randrange(len(data)), rng.choice([1, 1, 2, 8, 64, 1000])
    stop = min(start + length, len(data))
    part = data[start:stop]
    kind = rng.randrange(7)
    if kind == 0:
        return data[:start] + bytes([data[start] ^ (1 << rng.randrange(8))]) + data[start + 1 :]
    if kind == 1:
        return data[:start]
    if kind == 2:
        return data[:start] + data[stop:]
    if kind == 3:
        return data[:start] + rng.randbytes(length) + data[start:]
    if kind == 4:
        return data[:start] + bytes(len(part)) + data[stop:]
    if kind == 5:
        return data[:start] + part + part + data[stop:]
    other = rng.randrange(len(data))
    first, second = sorted((start, other))
    width = min(length, second - first, len(data) - second)
    return (
        data[:first]
        + data[second : second + width]
        + data[first + width : second]
        + data[first : first + width]
        + data[second + width :]
    )


def signed(text: bytes) -> bytes:
    """A manifest's bytes with the digest that fits them."""
    blank = text[:HEAD] + b"0" * 64 + text[HEAD + 64 :]
    return blank[:HEAD] + hashlib.sha256(blank).hexdigest().encode() + blank[HEAD + 64 :]


def manifest_bytes(document: dict[str, Any]) -> bytes:
    return signed(json.dumps(document | {"digest": "0" * 64}, indent=1).encode() + b"\n")


def changed_field(document: dict[str, Any], rng: random.Random) -> tuple[str, dict[str, Any]]:
    """The document with one field, at any depth, changed, gone, doubled or moved."""
    made = copy.deepcopy(document)
    holder, above = made, []
    while True:
        at = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        inner = holder[at]
        if not above and at == "digest":
            continue
        above.append(str(at))
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.2:
            break
        holder = inner
    kind = rng.randrange(8)
    if kind == 0:
        del holder[at]
    elif kind == 1 and isinstance(holder, list):
        holder.append(inner)
    elif kind == 2 and type(inner) is int:
        holder[at] = inner + rng.choice([-1, 1, 2, -inner, 7, 2**31, -(2**40)])
    elif kind == 3 and isinstance(inner, str):
        holder[at] = damaged(inner.encode() or b"x", rng).decode("utf-8", "replace")
    elif kind == 4:
        other = rng.choice(list(document.values()))
        holder[at] = copy.deepcopy(other)
    else:
        holder[at] = rng.choice(
            [None, True, -1, 0, 1, 3, 1.5, 2**63, 1e308, "", "x", "../x", [], {}, [[]], [inner]]
        )
    return ".".join(above), made


def mended(files: dict[str, bytes], kind: str, data: bytes) -> dict[str, bytes]:
    """The files with another core or bank, and every hash and name made to fit it."""
    document = json.loads(files["memory.json"])
    record = document["files"][kind]
    made = {name: one for name, one in files.items() if name != record["name"]}
    sha256 = hashlib.sha256(data).hexdigest()
    blocks = [hashlib.sha256(data[at : at + 2**20]).digest() for at in range(0, len(data), 2**20)]
    record |= {
        "name": f"{kind}-{sha256[:16]}.safetensors",
        "bytes": len(data),
        "sha256": sha256,
        "blocks": base64.b64encode(b"".join(blocks)).decode(),
    }
    return made | {record["name"]: data, "memory.json": manifest_bytes(document)}


def damage(files: dict[str, bytes], rng: random.Random) -> tuple[str, dict[str, bytes]]:
    """What was done ("bytes", "files", "field NAME" or "mended"), and the files after it."""
    names = list(files)
    drawn = rng.random()
    if drawn < 0.55:
        name = rng.choice(names)
        return "bytes", {**files, name: damaged(files[name], rng)}
    if drawn < 0.6:
        name, other = rng.sample(names, 2)
        made = dict(files)
        kind = rng.randrange(3)
        if kind == 0:
            del made[name]
        elif kind == 1:
            made[name], made[other] = made[other], made[name]
        else:
            made[name] = made[other]
        return "files", made
    if drawn < 0.8:
        field, document = changed_field(json.loads(files["memory.json"]), rng)
        return f"field {field}", {**files, "memory.json": manifest_bytes(document)}
    name = rng.choice([name for name in names if name.endswith(".safetensors")])
    data = damaged(files[name], rng)
    return "mended", mended(files, name[:4], data or b"?")


# ---------------------------------------------------------------------- what comes of it


def seen(folder: Path) -> dict[str, Any]:
    """All that an answer can depend on, and the thumbnails: tensors byte by byte, and the facts."""
    memory = tasm.load(folder)
    json.dumps(memory.public())
    memory.check_all()
    found: dict[str, Any] = {"thumbnails": memory.thumbnails()}
    layers = [*memory.core, *(() if memory.bank is None else memory.bank.layers)]
    tensors: list[Any] = []
    for layer in layers:
        held = None if layer is None else layer.held() if hasattr(layer, "held") else layer
        tensors += [None] if held is None else [held.keys, held.values, held.index, held.bias]
    reference = memory.reference
    tensors += [] if reference is None else [*reference.layers]
    tokens = memory.tokens
    tensors += [tokens.positions, tokens.roles, tokens.demonstration, tokens.place]
    found["tensors"] = [None if one is None else _bytes(one) for one in tensors]
    found["facts"] = [memory.next_position, memory.logical_length, memory.identity, memory.layout]
    found["gate"] = [memory.gate, reference and (reference.thresholds, reference.step_thresholds)]
    found["geometry"] = memory.geometry
    cache = memory.cache(gate="always" if memory.bank is not None else "never")
    if cache.extra is not None:
        query = torch.randn(1, 2, 2, 8, generator=torch.Generator().manual_seed(9))
        values = cache.extra(0, query, 0.4)
        assert values is None or bool(values.values.isfinite().all())
    return found


def _bytes(tensor: torch.Tensor) -> tuple[Any, ...]:
    plain = tensor.contiguous().flatten().view(torch.uint8)
    return tensor.dtype, tuple(tensor.shape), plain.numpy().tobytes()


def differs(what: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Which parts are not bit-identical, where they must be."""
    parts = [name for name in before if before[name] != after[name]]
    if what == "mended":
        return []  # whoever can write the folder can write other values: a hash is no signature
    if what.startswith("field "):
        field = what.removeprefix("field ")
        if field.startswith(CHOICES):
            return []
        # A manifest that was changed and signed may say something else of layout and identity, and
        # of what only warns.
        free = {"facts"} if field.startswith(("layout", "model")) else set()
        free |= {"geometry"} if field in WARNS else set()
        return [name for name in parts if name not in free]
    return parts


def try_many(count: int, seed: int, work: Path) -> tuple[Counter[str], list[str]]:
    """Damage sound memories `count` times; returns what came of it, and what must not have."""
    rng = random.Random(seed)
    places = make(work)
    sound = {name: files_of(folder) for name, folder in places.items()}
    right = {name: seen(folder) for name, folder in places.items()}
    came, faults = Counter[str](), list[str]()
    for number in range(count):
        name = rng.choice(list(sound))
        what, files = damage(sound[name], rng)
        if files == sound[name]:
            came["as it was"] += 1
            continue
        put(places[name], sound[name], files)
        kind = what.split()[0]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                after = seen(places[name])
        except TasmError as error:
            came[f"{kind}: refused"] += 1
            if "\n" in str(error) or len(str(error)) > 2000:
                faults.append(f"{number} {name} {what}: {error}")
        except Exception as error:  # a fault is what this looks for
            faults.append(f"{number} {name} {what}: {type(error).__name__}: {error}")
        else:
            came[f"{kind}: accepted"] += 1
            if parts := differs(what, right[name], after):
                faults.append(f"{number} {name} {what}: other {', '.join(parts)}")
        put(places[name], files, sound[name])
    return came, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        came, faults = try_many(given.count, given.seed, Path(work))
    print(*(f"{number:8,} {name}" for name, number in sorted(came.items())), sep="\n")
    print(*faults, f"{len(faults)} faults", sep="\n")


if __name__ == "__main__":
    main()
