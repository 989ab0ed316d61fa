"""What may be shown of a memory: JSON values, a line, a few lines, a table for notebooks.

The HTML is self-contained; everything that came from a user is escaped. Reads no tensor of a memory
on disk, and no picture.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import torch

from tasm.memory.described import DescribedMemory
from tasm.memory.entry import DemonstrationEntry
from tasm.memory.packing.vectors import row_bytes

_SHOWN = 5
_LONGEST = 120


def html_table(title: str, rows: Iterable[Sequence[Any]], note: str = "") -> str:
    """Return a small table of rows under a title, every cell escaped and cut at a sane length."""
    lines = "".join(
        "<tr>"
        + "".join(f'<td style="text-align:left">{_cell(cell)}</td>' for cell in row)
        + "</tr>"
        for row in rows
    )
    below = f"<div>{_cell(note)}</div>" if note else ""
    return f"<div><strong>{_cell(title)}</strong><table>{lines}</table>{below}</div>"


def bytes_text(count: int) -> str:
    """Return a number of bytes for people.

    ```python
    >>> bytes_text(1_250_000)
    '1.2 MB'
    ```
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


class ShownMemory(DescribedMemory):
    """What a memory shows of itself, in a console, in a notebook, and as JSON values."""

    def __repr__(self) -> str:
        place = "not saved" if self.place is None else str(self.place)
        bank = f", {bytes_text(self.bank_bytes)} in the bank" if self.bank_bytes else ""
        return (
            f"<TaskMemory {self.recipe.get('name', '?')}: {len(self.demonstrations)} "
            f"demonstrations, {self.logical_length:,} tokens, core {bytes_text(self.core_bytes)} "
            f"of {bytes_text(self.full_bytes)}{bank}; {place}>"
        )

    def _repr_html_(self) -> str:
        entries = [
            (entry.id, _short(entry.question), _short(entry.answer))
            for entry in self.demonstrations[:_SHOWN]
        ]
        rows = [*_memory_facts(self), *entries]
        return html_table("Task memory", rows, note=" ".join(_more(self)))

    def summary(self) -> str:
        """What is inside, as a few lines of text; `public()` has all of it as JSON values.

        ```python
        print(memory.summary())
        ```
        """
        facts = _memory_facts(self)
        width = max(len(name) for name, _ in facts)
        lines = [f"{name:<{width}}  {value}" for name, value in facts]
        for entry in self.demonstrations[:_SHOWN]:
            lines.append(f"{entry.id}  {_short(entry.question)} → {_short(entry.answer)}")
        return "\n".join([*lines, *_more(self)])

    def public(self) -> dict[str, Any]:
        """What may be shown of the memory, as JSON values, with the sizes of every layer; reads no
        tensor of a memory on disk. `tasm show --json` prints it."""
        folder = Path("." if self.place is None else self.place)
        banked = self.bank_counts or (None,) * len(self.core_counts)
        token_bytes = 2 * self.geometry.head_dim * getattr(torch, self.dtype).itemsize
        if self.packing is not None:
            token_bytes = 2 * row_bytes(self.geometry.head_dim, self.packing)
        layers = [
            {
                "layer": layer,
                "kind": self.geometry.layer_kinds[layer],
                "core_tokens": _mean(core),
                "bank_tokens": _mean(bank),
                "core_bytes": token_bytes * sum(core or ()),
                "bank_bytes": token_bytes * sum(bank or ()),
            }
            for layer, (core, bank) in enumerate(zip(self.core_counts, banked, strict=True))
        ]
        return self.contents.about_files() | {
            "memory": None if self.place is None else str(self.place),
            "model": {
                "name": self.model_name,
                "identity": self.identity.to_json(),
                "environment": dict(self.identity.environment),
                **({"vision_memory": self.vision_memory} if self.vision_memory else {}),
            },
            "geometry": asdict(self.geometry),
            "dtype": self.dtype,
            "packing": self.packing,
            "recipe": self.recipe,
            "layout": self.layout.to_json(),
            "next_position": self.next_position,
            "logical_length": self.logical_length,
            "gate": asdict(self.gate),
            "full_bytes": self.full_bytes,
            "core_bytes": self.core_bytes,
            "bank_bytes": self.bank_bytes,
            "layers": layers,
            "demonstrations": [_entry(entry, folder) for entry in self.demonstrations],
            "report": self.report,
        }


def _memory_facts(memory: DescribedMemory) -> list[tuple[str, str]]:
    """Return names and values of what a person wants to know first."""
    settings = memory.recipe.get("settings") or {}
    share = 100 * memory.core_bytes / max(1, memory.full_bytes)
    facts = [
        ("Model", memory.model_name or "wrapped in Python"),
        *([("Vision memory", memory.vision_memory)] if memory.vision_memory else []),
        ("Recipe", f"{memory.recipe.get('name', '?')}, {settings.get('mode', '?')}"),
        ("Demonstrations", f"{len(memory.demonstrations):,}, {memory.logical_length:,} tokens"),
        ("Core", f"{bytes_text(memory.core_bytes)}, {share:.1f} % of the full context's"),
        ("Bank", bytes_text(memory.bank_bytes) if memory.bank_bytes else "none"),
        ("Full context", bytes_text(memory.full_bytes)),
        ("Stored as", stored_as(memory)),
        ("Place", "not saved" if memory.place is None else str(memory.place)),
    ]
    return facts


def stored_as(memory: DescribedMemory) -> str:
    """Return the type of keys and values in the memory, and of packed ones what they become."""
    if memory.packing is None:
        return memory.dtype
    return f"{memory.packing}, read as {memory.dtype}"


def _more(memory: DescribedMemory) -> list[str]:
    more = len(memory.demonstrations) - _SHOWN
    return [f"… and {more} more demonstrations"] if more > 0 else []


def _short(text: str | None) -> str:
    if text is None:
        return "–"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _cell(value: Any) -> str:
    return escape(_short(str(value)))


def _mean(heads: tuple[int, ...] | None) -> float:
    return sum(heads) / len(heads) if heads else 0.0


def _entry(entry: DemonstrationEntry, folder: Path) -> dict[str, Any]:
    document = entry.to_json(folder)
    del document["text_ends"]  # a number a token: for pages, not for readers
    return document
