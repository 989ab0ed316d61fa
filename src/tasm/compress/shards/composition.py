"""What a memory knows of its own making so that it can change, and the memory it changes into.

A memory's report keeps the share of a demonstration's tokens that is kept (`share`), which
demonstration each one was read after (`bases`), and the digests of what a whole prompt would be.
"""

import statistics
from collections.abc import Sequence
from typing import Any

from tasm.arguments import shown
from tasm.backbone.limits import ANSWER_POSITIONS, check_positions
from tasm.compress.settings import Notice
from tasm.compress.shards.independent import TRANSCRIPT, Piece, open_gate
from tasm.compress.shards.share import Share
from tasm.errors import InputError, did_you_mean
from tasm.memory import Bank, GateSettings, TaskMemory
from tasm.memory.core_tensors import Counts
from tasm.memory.retrieval.gate import GateReference
from tasm.memory.shards import Shard, shard_of


def share_of(memory: TaskMemory) -> Share:
    """Which part of its demonstrations' tokens a memory keeps: what its build fixed, or what there
    is."""
    if (fixed := memory.report.get("share")) is not None:
        return Share(*fixed)
    head = int((memory.tokens.demonstration < 0).sum())
    tokens = max(1, len(memory.tokens) - head)
    core, bank = (
        [statistics.fmean(counts) for counts in held or () if counts is not None]
        for held in (memory.core_counts, memory.bank_counts)
    )
    kept = max(0.0, statistics.fmean(core) - head) if core else 0.0
    return Share(kept / tokens, statistics.fmean(bank) / tokens if bank else 0.0)


def assembled(
    memory: TaskMemory,
    shard: Shard,
    bases: list[int] | None,
    pieces: list[Piece] | None,
    reference: GateReference | None,
    notice: Notice,
) -> TaskMemory:
    """The memory with another content, its gate taught by `reference`."""
    if memory.packing is not None:
        notice(
            f"The memory is packed ({memory.packing}): what it unpacks to is changed and kept in "
            f"{memory.dtype}. Pack it again afterwards (`tasm pack`)."
        )
    tokens = len(shard)
    check_positions(
        next_position=shard.next_position,
        query_positions=max(end - start for entry in shard.entries for start, end in entry.spans),
        new_tokens=ANSWER_POSITIONS,
        max_positions=memory.geometry.max_positions,
    )
    has_bank = any(one is not None for one in shard.bank)
    if (
        reference is None
        and not memory.gate.compares
        and len(shard.entries) > len(memory.demonstrations)
    ):
        reference = memory.reference  # nats of each layer; of what was removed nothing stays
    changed = memory.replaced(
        core=shard.core,
        bank=Bank(shard.bank) if has_bank else None,
        tokens=shard.tokens,
        demonstrations=shard.entries,
        next_position=shard.next_position,
        logical_length=tokens,
        full_bytes=memory.full_bytes // memory.logical_length * tokens,
        gate=_gate(memory, has_bank, reference, notice),
        reference=reference if has_bank else None,
        asked=shard.asked if has_bank and reference is not None else None,
        # What tuning found was found with other demonstrations.
        recipe={name: one for name, one in memory.recipe.items() if name != "tuned"},
    )
    report = {
        name: one for name, one in memory.report.items() if name not in ("seconds", TRANSCRIPT)
    }
    report |= {
        "demonstrations": len(shard.entries),
        "tokens": tokens,
        "core_tokens": _mean(changed.core_counts),
        "bank_tokens": _mean(changed.bank_counts),
        "full_bytes": changed.full_bytes,
        "core_bytes": changed.core_bytes,
        "bank_bytes": changed.bank_bytes,
    }
    if bases is not None:
        report["bases"] = bases
    if pieces is not None:
        report[TRANSCRIPT] = [list(piece) for piece in pieces]
    changed.report.clear()
    changed.report.update(report)
    return changed


def _gate(
    memory: TaskMemory, has_bank: bool, reference: GateReference | None, notice: Notice
) -> GateSettings:
    if not has_bank:
        return GateSettings(kind="never")
    return memory.gate if reference is not None else open_gate(memory.gate, notice)


def pieces_of(memory: TaskMemory, more: Sequence[Piece] = ()) -> list[Piece] | None:
    """The memory's pieces and `more`; what was known as a whole stays one piece."""
    known = memory.report.get(TRANSCRIPT)
    if known is None:
        return None
    if isinstance(known, str):
        known = [(memory.logical_length, known)]
    return [*((int(tokens), str(digest)) for tokens, digest in known), *more]


def mode_of(memory: TaskMemory) -> str:
    """How the memory was built."""
    return str((memory.recipe.get("settings") or {}).get("mode", "joint"))


def bases_of(memory: TaskMemory) -> list[int]:
    """Which demonstration each one was read after, and after what that one was; -1 for none."""
    return [int(number) for number in memory.report["bases"]]


def seen_by(bases: Sequence[int], number: int) -> list[int]:
    """All demonstrations that one was read after, the last first.

    ```python
    >>> seen_by([-1, 0, 1, 1], 3)
    [1, 0]
    ```
    """
    seen: list[int] = []
    while (number := bases[number]) >= 0:
        seen.append(number)
    return seen


def shown_first(bases: Sequence[int], shown: int) -> int:
    """How many of the first demonstrations are read after each other, for all others to see."""
    count = 1
    while count < min(shown, len(bases)) and bases[count] == count - 1:
        count += 1
    return count


def shards_of(memory: TaskMemory, numbers: Sequence[int]) -> list[Shard]:
    """Demonstrations by number, those that follow each other as one shard."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return [shard_of(memory, first, stop) for first, stop in runs]


def number_of(memory: TaskMemory, wanted: Any) -> int:
    """Which demonstration has an id."""
    known = [one.id for one in memory.demonstrations]
    if wanted not in known:
        raise InputError(
            f"There is no demonstration {shown(wanted)} in the memory."
            f"{did_you_mean(str(wanted), known)} It holds {few(known)}."
        )
    return known.index(wanted)


def refuse_seen(memory: TaskMemory, numbers: Sequence[int]) -> None:
    """Refuse to remove what keys that stay have seen."""
    names = [memory.demonstrations[number].id for number in numbers]
    if mode_of(memory) != "independent":
        raise InputError(
            f"The memory was built in mode {mode_of(memory)}: later demonstrations have read "
            f"{few(names)}, and their keys still hold something of it. Build anew without: "
            "`tasm build DEMOS --mode independent` makes a memory whose demonstrations can go."
        )
    going = set(numbers)
    bases = bases_of(memory)
    stays = [n for n in range(len(bases)) if n not in going]
    if not stays:
        raise InputError("These are all demonstrations; a memory needs one. Delete its folder.")
    if seen := sorted({other for n in stays for other in seen_by(bases, n)} & going):
        raise InputError(
            f"Others were read after {few([memory.demonstrations[n].id for n in seen])}, and "
            "their keys hold something of it. Build anew without it: `tasm build DEMOS --mode "
            "independent`."
        )


def refuse_unlike(first: TaskMemory, other: TaskMemory) -> None:
    """Refuse to merge memories that do not fit each other."""
    name = other.place or "A memory"
    if mode_of(other) != "independent":
        raise InputError(
            f"{name} was built in mode {mode_of(other)}; only independent memories can be merged. "
            "Build it with `tasm build DEMOS --mode independent`."
        )
    for what, mine, theirs in (
        ("layout", first.layout, other.layout),
        ("type of numbers", first.dtype, other.dtype),
        ("system prompt", _head(first), _head(other)),
    ):
        if mine != theirs:
            raise InputError(
                f"{name} has another {what} than {first.place or 'the first memory'}: {theirs}, "
                f"not {mine}. Build both alike."
            )


def _head(memory: TaskMemory) -> Piece | None:
    pieces = pieces_of(memory)
    return pieces[0] if pieces else None


def read_alike(first: TaskMemory, other: TaskMemory, number: int) -> bool:
    """Whether a base is kept in both with the same keys."""
    mine, theirs = (
        [one.content_hash for one in memory.demonstrations] for memory in (first, other)
    )
    if theirs[number] not in mine:
        return False
    before = seen_by(bases_of(first), mine.index(theirs[number]))
    return (
        [mine[n] for n in before] == [theirs[n] for n in seen_by(bases_of(other), number)]
        and first.recipe == other.recipe
        and share_of(first) == share_of(other)
    )


def _mean(counts: Counts | None) -> float:
    held = [one for heads in counts or () if heads is not None for one in heads]
    return statistics.fmean(held) if held else 0.0


def few(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    first = ", ".join(names[:5])
    return first if len(names) <= 5 else f"{first} and {len(names) - 5} more"
