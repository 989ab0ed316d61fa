"""Memories of several kinds, built once with the bundled model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tasm
from tasm.view.thumbnails import thumbnails

NASTY = "</style></script><script>alert(1)</script> `code` \"'&amp; {{ 7*7 }}"


def picture(folder: Path, number: int) -> str:
    """A picture of its own colours; returns its path."""
    path = folder / f"bird {number}.png"
    pixels = np.random.default_rng(number).integers(0, 255, (84, 112, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def _plain(folder: Path) -> list[dict[str, Any]]:
    return [
        {"image": picture(folder, n), "question": "Which bird?", "answer": f"bird {n % 3}"}
        for n in range(15)
    ]


def _turns(folder: Path) -> list[dict[str, Any]]:
    def user(*parts: dict[str, str]) -> dict[str, Any]:
        return {"role": "user", "content": list(parts)}

    return [
        {
            "messages": [
                user(
                    {"type": "image", "image": picture(folder, n)},
                    {"type": "text", "text": "What is in the first one?"},
                ),
                {"role": "assistant", "content": "a disc"},
                user({"type": "text", "text": "Which colour has it?"}),
                {"role": "assistant", "content": f"red number {n}"},
                user(
                    {"type": "text", "text": "And here"},
                    {"type": "image", "image": picture(folder, n + 20)},
                    {"type": "text", "text": "too?"},
                ),
                {"role": "assistant", "content": f"last {n}"},
            ]
        }
        for n in range(3)
    ]


KINDS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "plain": _plain,
    "turns": _turns,
    "text": lambda _: [
        {"id": f"sum {n}", "question": f"What is {n} + {n}?", "answer": str(2 * n)}
        for n in range(4)
    ],
    "long": lambda _: [
        {"question": f"{n} " + "a long text of many words " * 60 + "END", "answer": "yes"}
        for n in range(2)
    ],
    "nasty": lambda folder: [
        {"id": NASTY, "image": picture(folder, n), "question": f"{NASTY} {n}", "answer": NASTY}
        for n in range(2)
    ][:1],
}


@pytest.fixture(scope="session")
def memory_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tasm.TaskMemory]:
    """Returns the memory of a kind, from disk with its thumbnails."""
    model = tasm.load_model("reference")
    made: dict[str, tasm.TaskMemory] = {}

    def memory(kind: str) -> tasm.TaskMemory:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            rows = tasm.read_demonstrations(KINDS[kind](folder))
            memory = tasm.build(model, rows, recipe="tasm")
            memory.save(folder / "m.tasm", pictures=thumbnails(rows))
            made[kind] = tasm.load(folder / "m.tasm")
        return made[kind]

    return memory
