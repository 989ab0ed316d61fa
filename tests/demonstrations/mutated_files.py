"""Random damage to files of demonstrations, drawn from a seed, and what reading them comes to.

`python -m tests.demonstrations.mutated_files --count 50000 --every 1` tries more than the tests do.
"""

import argparse
import base64
import io
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasm.demonstrations import Demonstration, read_demonstrations
from tasm.errors import TasmError

Lay = Callable[[list[Demonstration]], Any]
"""What a build does first with demonstrations: it lays them out as one transcript."""


def picture(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


ADDRESS = "data:image/png;base64," + base64.b64encode(picture(0)).decode()
ROWS: list[dict[str, Any]] = [
    {"id": "a", "image": "0.png", "question": "Which?", "answer": "wren"},
    {"images": ["0.png", "1.png"], "question": "Is <image> like <image>?", "answer": 3},
    {"images": [ADDRESS], "question": "Ünï 🦜 <image>", "answer": ["a robin", "robin"]},
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "image", "image": "1.png"}, "Which?"]},
            {"role": "assistant", "content": [{"type": "text", "text": "wren"}]},
        ]
    },
    {"question": "No picture?", "answer": "none"},
]
CSV = (
    "id,image,question,answer\n1,0.png,Which?,wren\n"
    '2,1.png,"A, ""b""\nand c?",robin\n3,,No picture?,none\n'
)


def sound_files() -> dict[str, bytes]:
    """One sound file of every kind."""
    import pyarrow
    from pyarrow import parquet

    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    bytes_row = {"image": {"bytes": picture(0), "path": None}, "question": "A?", "answer": "b"}
    table = pyarrow.Table.from_pylist([bytes_row, bytes_row | {"answer": "c"}])
    sink, stream = io.BytesIO(), io.BytesIO()
    parquet.write_table(table, sink)
    with pyarrow.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return {
        "rows.jsonl": lines.encode(),
        "rows.json": json.dumps(ROWS, indent=1).encode(),
        "rows.csv": CSV.encode(),
        "rows.parquet": sink.getvalue(),
        "rows.arrow": stream.getvalue(),
        "0.png": picture(0),
        "1.png": picture(1),
    }


ODD: list[Any] = [
    None, True, -1, 0, 1.5, 1e308, "", " ", "\0", "\ud800", "gone.png", "/dev/zero", "../../x",
    "https://example.org/x.png", "data:image/png;base64,AAAA", "<image>", "<image>" * 50,
    "<|im_end|>", "\u202e", "x" * 5000, [], {}, [[]], {"role": "user"}, "0.png",
]  # fmt: skip
PIECES = [b"\0", b"\xff", b'"', b"{", b"[" * 3000, b",", b"\r", b"\xef\xbb\xbf", b"NaN", b"\\u"]


def damaged(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 3)):
        place, length = rng.randrange(len(data) + 1), rng.choice([1, 2, 10, 200])
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:place]
        elif kind == 1:
            data = data[:place] + rng.choice(PIECES) + data[place:]
        elif kind == 2:
            data = data[:place] + rng.randbytes(1) + data[place + 1 :]
        elif kind == 3:
            data = data[:place] + data[place + length :]
        elif kind == 4:
            data = data[:place] + bytes(len(data[place : place + length])) + data[place + length :]
        else:
            data = data[:place] + data[place : place + length] + data[place:]
    return data


def changed(value: Any, rng: random.Random) -> Any:
    """A JSON value with one thing in it replaced, left out, renamed, repeated or moved."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(list(value))
        kind = rng.random()
        if kind < 0.1:
            return {other: value[other] for other in value if other != name}
        if kind < 0.2:
            return {(name.upper() if other == name else other): value[other] for other in value}
        if kind < 0.3:
            return {
                **value,
                rng.choice(["images", "id", "messages", "answer", "video"]): value[name],
            }
        return {**value, name: changed(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        if rng.random() < 0.15:
            return [*value, value[place]]
        return [*value[:place], changed(value[place], rng), *value[place + 1 :]]
    return rng.choice(ODD)


def damage(files: dict[str, bytes], rng: random.Random) -> tuple[str, dict[str, bytes]]:
    """The file to read, and all files with one of them changed."""
    name = rng.choice([name for name in files if name.startswith("rows")])
    if rng.random() < 0.1:
        hurt = rng.choice(["0.png", "1.png"])
        return name, {**files, hurt: damaged(files[hurt], rng)}
    if name.endswith((".json", ".jsonl")) and rng.random() < 0.7:
        rows = list(ROWS)
        for _ in range(rng.randint(1, 2)):
            rows = changed(rows, rng)
        if name.endswith(".json") or not isinstance(rows, list):
            text = json.dumps(rows)
        else:
            text = "\n".join(json.dumps(row) for row in rows)
        return name, {**files, name: text.encode()}
    return name, {**files, name: damaged(files[name], rng)}


def try_many(
    count: int, seed: int, folder: Path, lay: Lay, every: int
) -> tuple[Counter[str], list[str]]:
    """Read damaged files `count` times; of those that can be read one in `every` is laid out as a
    transcript. Returns what came of it, and what must not have."""
    rng = random.Random(seed)
    sound = sound_files()
    for name, data in sound.items():
        (folder / name).write_bytes(data)
    came, faults = Counter[str](), list[str]()
    for number in range(count):
        name, files = damage(sound, rng)
        hurt = {one: data for one, data in files.items() if data != sound[one]}
        for one, data in hurt.items():
            (folder / one).write_bytes(data)
        try:
            skip = rng.random() < 0.5
            warn = list[str]().append
            rows = read_demonstrations(folder / name, skip_bad_rows=skip, warn=warn)
            came["read"] += 1
            if not rows or any(not one.answer.strip() for one in rows):
                faults.append(f"{number} {name}: {rows}")
            if came["read"] % every == 0:
                lay(rows)
                came["laid out"] += 1
        except TasmError as error:
            came["refused"] += 1
            if not str(error) or error.exit_code != 2:
                faults.append(f"{number} {name}: {error!r}")
        except Exception as error:  # a fault is what this looks for
            faults.append(f"{number} {name}: {type(error).__name__}: {str(error)[:300]}")
        for one in hurt:
            (folder / one).write_bytes(sound[one])
    return came, faults


def tiny_layout(folder: Path) -> Lay:
    """How a tiny model lays demonstrations out, its real processor and chat template in use."""
    import tasm
    from tests.tiny_folders import tiny_folder

    backbone = tasm.load_model(str(tiny_folder("qwen2_vl", folder / "model"))).backbone
    return backbone.transcript


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory() as model:
        lay = tiny_layout(Path(model))
        came, faults = try_many(given.count, given.seed, Path(work), lay, given.every)
    print(*(f"{number:8,} {name}" for name, number in sorted(came.items())), sep="\n")
    print(*faults, f"{len(faults)} faults", sep="\n")


if __name__ == "__main__":
    main()
