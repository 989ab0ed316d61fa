"""`tasm.add`, `tasm.remove`, `tasm.merge`: memories that grow, shrink and are put together.

What stays is never read again; where it moves, its keys are rotated to where they belong.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasm.arguments import listener, unheard
from tasm.backbone.given import as_backbone
from tasm.backbone.model import Backbone
from tasm.compress.entries import entries_of
from tasm.compress.given import as_demonstrations
from tasm.compress.prefill import Progress
from tasm.compress.recipes.changed import recipe_change
from tasm.compress.settings import Notice, Settings, warn
from tasm.compress.shards.composition import (
    assembled,
    bases_of,
    few,
    number_of,
    pieces_of,
    read_alike,
    refuse_seen,
    refuse_unlike,
    shards_of,
    share_of,
    shown_first,
)
from tasm.compress.shards.independent import (
    Base,
    Reader,
    compressed_of,
    taught_gate,
    transcript_pieces,
)
from tasm.errors import InputError
from tasm.memory import TaskMemory
from tasm.memory.retrieval.gate import GateReference
from tasm.memory.shards import Shard, compose, head_of, shard_of

Given = TaskMemory | str | Path


def add(
    memory: Given,
    model: Any,
    demonstrations: Any,
    *,
    question: str | None = None,
    skip_bad_rows: bool = False,
    progress: Progress | None = None,
    notice: Notice | None = warn,
) -> TaskMemory:
    """Return the memory with more demonstrations; what it holds is not read again.

    ```python
    tasm.add("birds.tasm", model, "more.jsonl").save("birds.tasm", overwrite=True)
    ```

    In an `independent` memory a new demonstration is read after the system prompt and the first
    demonstration, as all others were: the result is what one build of them all gives. In a `joint`
    or `streaming` one it is read after everything that was kept, and `notice` says so.

    Args:
        memory: a task memory or its folder.
        model: the model it was made for, as `tasm.build` takes one.
        demonstrations, question, skip_bad_rows: as `tasm.build` takes them; those that are there
            already are left out, and `notice` says so.
        progress: called with a stage's name, steps done and steps in all.
        notice: called with sentences the user should see.

    Raises:
        InputError: of the demonstrations, or a model whose layers keep windows or states.
        MismatchError: the memory belongs to another model.
    """
    listener(progress, "progress")
    listener(notice, "notice")
    say = notice or unheard
    held, started = _opened(memory), time.perf_counter()
    rows = as_demonstrations(
        demonstrations, question=question, skip_bad_rows=skip_bad_rows, notice=notice
    )
    backbone = as_backbone(model)
    held.check(backbone.identity)
    settings = _settings(held, say)
    there = {one.content_hash: one.id for one in held.demonstrations}
    if known := [one.id for one in rows if one.content_hash in there]:
        say(f"{len(known)} demonstrations are in the memory already and left out: {few(known)}.")
    rows = [one for one in rows if one.content_hash not in there]
    if same := sorted({one.id for one in rows} & {one.id for one in held.demonstrations}):
        raise InputError(
            f"The memory holds other demonstrations of the same id: {few(same)}. Give the new "
            "ones another id, or remove the old ones first."
        )
    if not rows:
        return held
    transcript = backbone.transcript(
        rows, system=held.layout.system, max_pixels=held.layout.max_pixels
    )
    if transcript.layout != held.layout:
        raise InputError(
            "The new demonstrations are laid out in another way than those of the memory "
            f"({transcript.layout.to_json()}, not {held.layout.to_json()}): a lone picture and "
            "several are not read alike by this model. Build a memory of all demonstrations."
        )
    independent = settings.mode == "independent"
    if not independent:
        say(
            f"A {settings.mode} memory: the new demonstrations are read after what was kept of the "
            "others, not after all of it. Build anew to have each see all before it."
        )
    reader = Reader(backbone, settings, share_of(held))
    entries, rotary = entries_of(rows, transcript), backbone.rotary
    if all(one.question is None for one in held.demonstrations):  # built without their content
        entries = [one.without_content() for one in entries]
    head, like = head_of(held), next(one for one in held.core if one is not None)
    parts = [head, shard_of(held, 0, len(held.demonstrations))]
    bases = bases_of(held) if independent else []
    first = shown_first(bases, settings.shown) if independent else len(held.demonstrations)
    before = compose([head, shard_of(held, 0, first)], rotary)
    for number, entry in enumerate(entries):
        (progress or unheard)("encode", number, len(entries))
        read = reader.read(transcript, number, entry, Base.of(before, backbone)).to(like)
        parts.append(read)
        is_shown = not independent or first == len(bases) < settings.shown
        if independent:
            bases.append(first - 1)
        if is_shown:
            before, first = compose([before, read], rotary), first + 1
    (progress or unheard)("encode", len(entries), len(entries))
    pieces = pieces_of(held, transcript_pieces(transcript)[1:])
    whole = compose(parts, rotary)
    reference = _taught(backbone, whole, settings)
    changed = assembled(held, whole, bases or None, pieces, reference, say)
    changed.report["seconds"] = {**reader.seconds, "total": time.perf_counter() - started}
    return changed


def remove(
    memory: Given, model: Any, ids: Sequence[str], *, notice: Notice | None = warn
) -> TaskMemory:
    """Return the memory without some demonstrations: nothing of them stays in it.

    ```python
    tasm.remove("birds.tasm", model, ["wren-17"]).save("birds.tasm", overwrite=True)
    ```

    Only of an `independent` memory, and not its first demonstration, which all others have seen.
    The model only rotates keys; it reads nothing. A folder that is overwritten keeps no old file.

    Raises:
        InputError: an id there is not, or one that others have seen; the message says what can be
            done.
        MismatchError: the memory belongs to another model.
    """
    listener(notice, "notice")
    held = _opened(memory)
    wanted = [ids] if isinstance(ids, str) else list(ids)
    numbers = check_removable(held, wanted)
    backbone = as_backbone(model)
    held.check(backbone.identity)
    stays = [n for n in range(len(held.demonstrations)) if n not in set(numbers)]
    composed = compose([head_of(held), *shards_of(held, stays)], backbone.rotary)
    place = {old: new for new, old in enumerate(stays)}
    bases = [place.get(bases_of(held)[n], -1) for n in stays]
    pieces = pieces_of(held)
    if pieces is not None:
        pieces = [pieces[0], *(pieces[1 + n] for n in stays)]
    reference = _taught(backbone, composed, _settings(held, unheard))
    return assembled(held, composed, bases, pieces, reference, notice or unheard)


def check_removable(memory: TaskMemory, ids: Sequence[str]) -> list[int]:
    """Return which demonstrations have these ids; raises InputError where one cannot go."""
    numbers = [number_of(memory, one) for one in ids]
    if not numbers:
        raise InputError("No id was given; expected one or several of the memory's demonstrations.")
    refuse_seen(memory, numbers)
    return numbers


def merge(model: Any, memories: Sequence[Given], *, notice: Notice | None = warn) -> TaskMemory:
    """Return one memory of several `independent` ones: their demonstrations one after the other.

    ```python
    tasm.merge(model, ["birds.tasm", "bees.tasm"]).save("both.tasm")
    ```

    The first memory's recipe and gate go on. A demonstration that is in several is kept once,
    unless others of its memory have seen it. The model only rotates keys; it reads nothing.

    Raises:
        InputError: fewer than two memories, one that is not independent, another system prompt,
            layout or type of numbers.
        MismatchError: a memory belongs to another model.
    """
    listener(notice, "notice")
    held = [_opened(one) for one in memories]
    if len(held) < 2:
        raise InputError(f"{len(held)} memories were given; expected two or more to merge.")
    backbone = as_backbone(model)
    first = held[0]
    for one in held:
        one.check(backbone.identity)
        refuse_unlike(first, one)
    parts, bases = [head_of(first)], list[int]()
    pieces = pieces_of(first)
    pieces = None if pieces is None else pieces[:1]
    seen: dict[str, int] = {}
    for one in held:
        own, own_pieces = bases_of(one), pieces_of(one)
        place: dict[int, int] = {}
        stays: list[int] = []
        for number, entry in enumerate(one.demonstrations):
            known = seen.get(entry.content_hash)
            if known is not None and (number not in own or read_alike(first, one, number)):
                place[number] = known
                continue
            place[number] = len(bases)
            seen.setdefault(entry.content_hash, len(bases))
            bases.append(place.get(own[number], -1))
            stays.append(number)
        parts += shards_of(one, stays)
        if pieces is not None and own_pieces is not None:
            pieces += [own_pieces[1 + number] for number in stays]
        else:
            pieces = None
    whole = compose(parts, backbone.rotary)
    reference = _taught(backbone, whole, _settings(first, unheard))
    return assembled(first, whole, bases, pieces, reference, notice or unheard)


def _taught(backbone: Backbone, whole: Shard, settings: Settings) -> GateReference | None:
    """The gate's reference of what a memory becomes, from the queries it has kept."""
    kept = compressed_of(whole, {})
    return taught_gate(backbone, kept, [one.spans[0] for one in whole.entries], settings)


def _opened(memory: Given) -> TaskMemory:
    return memory if isinstance(memory, TaskMemory) else TaskMemory.load(memory)


def _settings(memory: TaskMemory, notice: Notice) -> Settings:
    """The settings that the memory was built with."""
    if changed := recipe_change(memory.recipe):
        notice(changed)
    settings = Settings.of(recipe=memory.recipe["name"], **memory.recipe["settings"])
    # What a memory's gate is taught is for the gate that it has, whatever the recipe's is by now.
    gate = memory.recipe.get("gate", settings.recipe.gate)
    return replace(settings, recipe=replace(settings.recipe, gate=gate))
