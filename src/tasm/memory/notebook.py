"""Small tables for notebooks and a line for the console: what is inside a memory.

Self-contained HTML; everything that came from a user is escaped. Reads no tensor of a memory on
disk, and no picture.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasm.memory.task_memory import TaskMemory

_SHOWN = 5
_LONGEST = 120
_STYLE = 'style="text-align:left"'


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


def memory_line(memory: "TaskMemory") -> str:
    """Return what `repr` says of a memory."""
    place = "not saved" if memory.place is None else str(memory.place)
    bank = f", {bytes_text(memory.bank_bytes)} in the bank" if memory.bank_bytes else ""
    return (
        f"<TaskMemory {memory.recipe.get('name', '?')}: {len(memory.demonstrations)} "
        f"demonstrations, {memory.logical_length:,} tokens, core {bytes_text(memory.core_bytes)} "
        f"of {bytes_text(memory.full_bytes)}{bank}; {place}>"
    )


def memory_facts(memory: "TaskMemory") -> list[tuple[str, str]]:
    """Return names and values of what a person wants to know first."""
    settings = memory.recipe.get("settings") or {}
    share = 100 * memory.core_bytes / max(1, memory.full_bytes)
    facts = [
        ("Model", memory.model_name or "wrapped in Python"),
        ("Recipe", f"{memory.recipe.get('name', '?')}, {settings.get('mode', '?')}"),
        ("Demonstrations", f"{len(memory.demonstrations):,}, {memory.logical_length:,} tokens"),
        ("Core", f"{bytes_text(memory.core_bytes)}, {share:.1f} % of the full context's"),
        ("Bank", bytes_text(memory.bank_bytes) if memory.bank_bytes else "none"),
        ("Full context", bytes_text(memory.full_bytes)),
        ("Stored as", memory.dtype),
        ("Place", "not saved" if memory.place is None else str(memory.place)),
    ]
    return facts


def memory_summary(memory: "TaskMemory") -> str:
    """Return the facts and the first demonstrations as text of a few lines."""
    facts = memory_facts(memory)
    width = max(len(name) for name, _ in facts)
    lines = [f"{name:<{width}}  {value}" for name, value in facts]
    for entry in memory.demonstrations[:_SHOWN]:
        lines.append(f"{entry.id}  {_short(entry.question)} → {_short(entry.answer)}")
    return "\n".join([*lines, *_more(memory)])


def memory_html(memory: "TaskMemory") -> str:
    """Return the same for a notebook."""
    entries = [
        (entry.id, _short(entry.question), _short(entry.answer))
        for entry in memory.demonstrations[:_SHOWN]
    ]
    return html_table(
        "Task memory", [*memory_facts(memory), *entries], note=" ".join(_more(memory))
    )


def _more(memory: "TaskMemory") -> list[str]:
    more = len(memory.demonstrations) - _SHOWN
    return [f"… and {more} more demonstrations"] if more > 0 else []


def _short(text: str | None) -> str:
    if text is None:
        return "–"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _cell(value: Any) -> str:
    return escape(_short(str(value)))
