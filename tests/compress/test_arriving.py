"""Streams of demonstrations: from generators and files, broken off and gone on, packed closer."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tasm
from tasm.backbone.prompt.images import batched
from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.streams.arriving import Done, arriving_chunks
from tasm.compress.streams.closer import shifts_to_fit
from tasm.compress.streams.streaming import Stream
from tasm.compress.streams.token_log import TokenLog
from tasm.compress.streams.unfinished import DOCUMENT, Unfinished
from tasm.demonstrations import Demonstration, Message
from tasm.errors import DamageError, InputError
from tasm.memory import TaskMemory
from tasm.memory.layer import LayerTokens
from tasm.memory.shards import turned
from tests.compress.tiny_backbone import (
    TinyBackbone,
    chunks_of,
    logits_after,
    settings,
    tiny_backbone,
)

FAMILIES = ("qwen2_vl", "llava", "gemma3", "qwen3_5")
COUNTED = {"core": "30", "bank": "15", "chunk_tokens": 60, "notice": None}


@pytest.fixture(scope="module")
def backbone() -> TinyBackbone:
    return tiny_backbone()


def rows(count: int) -> list[Demonstration]:
    """Demonstrations by number: a tiny backbone draws their tokens from it."""
    return [
        Demonstration(
            str(number),
            (Message("user", ("q",)), Message("assistant", (f"answer {number % 3}",))),
            f"{number:064x}",
        )
        for number in range(1, count + 1)
    ]


def streamed(backbone: Any, given: Any, **settings: Any) -> TaskMemory:
    return tasm.build(backbone, given, mode="streaming", **(COUNTED | settings))


def same(one: TaskMemory, other: TaskMemory) -> None:
    """The same memory, bit for bit, by what a file would hold."""
    assert one.demonstrations == other.demonstrations
    assert one.next_position == other.next_position
    assert one.recipe == other.recipe
    assert one.layout == other.layout
    for name in ("positions", "roles", "demonstration", "place"):
        assert torch.equal(getattr(one.tokens, name), getattr(other.tokens, name)), name
    pairs = [*zip(one.core, other.core, strict=True)]
    if one.bank is not None or other.bank is not None:
        assert one.bank is not None and other.bank is not None
        for a, b in zip(one.bank.layers, other.bank.layers, strict=True):
            assert (a is None) == (b is None)
            pairs += [(None if a is None else a.held(), None if b is None else b.held())]
    for mine, theirs in pairs:
        assert (mine is None) == (theirs is None)
        if mine is None or theirs is None:
            continue
        assert mine.counts == theirs.counts
        for name in ("keys", "values", "index", "bias"):
            a, b = getattr(mine, name), getattr(theirs, name)
            assert (a is None) == (b is None) and (a is None or torch.equal(a, b)), name
    for mine, theirs in zip(one.states, other.states, strict=True):
        assert (mine or {}).keys() == (theirs or {}).keys()
        for name in mine or {}:
            assert torch.equal((mine or {})[name], (theirs or {})[name])
    a, b = one.reference, other.reference
    assert (a is None) == (b is None)
    if a is not None and b is not None:
        assert a.thresholds == b.thresholds and a.step_thresholds == b.step_thresholds


@pytest.mark.parametrize("chunk_tokens", [1, 50, 90, 10_000])
def test_chunks_are_those_of_the_whole_transcript(
    backbone: TinyBackbone, chunk_tokens: int
) -> None:
    demonstrations = rows(70)  # more than are laid out together
    here = settings(mode="streaming", chunk_tokens=chunk_tokens)
    whole = backbone.transcript(demonstrations)
    expected = list(chunks_of(whole, demonstrations, chunk_tokens))
    found = list(arriving_chunks(backbone, iter(demonstrations), here))
    assert [one.digest for one in found] == [one.digest for one in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert tuple(mine.demonstrations) == tuple(theirs.demonstrations)
        equal_transcripts(mine.transcript, theirs.transcript)
    k = len(found) // 2
    if k:
        done = Done(
            sum(len(one.demonstrations) for one in found[:k]),
            found[k].transcript.first_image,
            found[k - 1].digest,
        )
        rest = list(arriving_chunks(backbone, iter(demonstrations), here, done))
        assert len(rest) == len(found) - k
        for mine, theirs in zip(rest, expected[k:], strict=True):
            equal_transcripts(mine.transcript, theirs.transcript)


def equal_transcripts(mine: Transcript, theirs: Transcript) -> None:
    for name in ("input_ids", "roles", "demonstration", "place"):
        assert torch.equal(getattr(mine, name), getattr(theirs, name)), name
    assert mine.spans == theirs.spans and mine.first_image == theirs.first_image
    ours, others = batched([mine.images]), batched([theirs.images])
    assert ours.keys() == others.keys()
    assert all(torch.equal(ours[name], others[name]) for name in ours)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_generator_gives_what_a_list_gives(family: str) -> None:
    backbone = tiny_backbone(family)
    recipe = "tasm" if family == "llava" else "tasm-even-layers"
    one = streamed(backbone, iter(rows(40)), recipe=recipe)
    same(one, streamed(backbone, rows(40), recipe=recipe))
    assert one.report["demonstrations"] == 40


def test_shares_of_a_generator_are_of_what_has_come(backbone: TinyBackbone) -> None:
    notices: list[str] = []
    given = {"core": "25%", "bank": "10%", "notice": notices.append, "recipe": "tasm-even-layers"}
    memory = streamed(backbone, iter(rows(20)), **given)
    assert any("not known" in one for one in notices)
    assert memory.report["core_tokens"] == memory.logical_length // 4
    same(streamed(backbone, rows(20), **given), streamed(backbone, rows(20), **given))
    with pytest.raises(InputError, match="divides its core over all chunks"):
        streamed(backbone, iter(rows(3)), recipe="emloc-paper", core="40", bank=None)


def test_never_more_than_a_few_are_held(
    backbone: TinyBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, read = 0, 0
    furthest = 0

    def generate() -> Iterator[Demonstration]:
        nonlocal given, furthest
        for one in rows(200):
            given += 1
            furthest = max(furthest, given - read)
            yield one

    reads = Stream.read

    def listen(self: Stream, chunk: Any) -> None:
        nonlocal read
        reads(self, chunk)
        read = len(self.entries)

    monkeypatch.setattr(Stream, "read", listen)
    streamed(backbone, generate(), recipe="recent", bank=None)
    assert read == 200 and furthest <= 32 + 6


class Broken(Exception):
    pass


@pytest.mark.parametrize(
    ("family", "recipe"),
    [*((family, "tasm") for family in FAMILIES), *(("qwen2_vl", r) for r in ("compact", "look-m"))],
)
def test_what_broke_off_goes_on(
    family: str, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbone(family)
    bank = "15" if recipe == "tasm" else None
    whole = streamed(backbone, rows(24), recipe=recipe, bank=bank)
    monkeypatch.setattr(Unfinished, "note", Unfinished.write)
    folder = tmp_path / "m.unfinished"

    def broken(stop: int) -> Iterator[Demonstration]:
        yield from rows(24)[:stop]
        raise Broken

    arriving = "tasm.compress.streams.arriving.TOGETHER"
    monkeypatch.setattr(arriving, 4)
    for stop in (9, 17):
        with pytest.raises(Broken):
            streamed(backbone, broken(stop), recipe=recipe, bank=bank, checkpoint=folder)
        assert (folder / DOCUMENT).is_file() and len(list(folder.iterdir())) == 2
    notices: list[str] = []
    given = {"recipe": recipe, "bank": bank, "checkpoint": folder, "notice": notices.append}
    again = streamed(backbone, iter(rows(24)), **given)
    assert any("Going on after" in one for one in notices)
    same(again, whole)
    assert not folder.exists()


def test_what_does_not_belong_together_is_refused(
    backbone: TinyBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Unfinished, "note", Unfinished.write)
    monkeypatch.setattr("tasm.compress.streams.arriving.TOGETHER", 4)
    folder = tmp_path / "m.unfinished"

    def broken() -> Iterator[Demonstration]:
        yield from rows(12)[:9]
        raise Broken

    with pytest.raises(Broken):
        streamed(backbone, broken(), checkpoint=folder)
    changed = [replace(one, content_hash="f" * 64) if one.id == "2" else one for one in rows(12)]
    with pytest.raises(InputError, match="has read other demonstrations: the first"):
        streamed(backbone, iter(changed), checkpoint=folder)
    with pytest.raises(InputError, match="and here are 2"):
        streamed(backbone, iter(rows(2)), checkpoint=folder)
    with pytest.raises(InputError, match=r"another setting 'core' \(\"30\"\).*\(\"31\"\)"):
        streamed(backbone, iter(rows(12)), checkpoint=folder, core="31")
    with pytest.raises(InputError, match="has no effect in mode joint"):
        tasm.build(backbone, rows(3), checkpoint=folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="another setting"):
        streamed(backbone, iter(rows(12)), checkpoint=folder, core="31")
    (state,) = folder.glob("*.safetensors")
    data = bytearray(state.read_bytes())
    data[-3] ^= 1
    state.write_bytes(bytes(data))
    with pytest.raises(DamageError, match="is not what was written"):
        streamed(backbone, iter(rows(12)), checkpoint=folder)
    document = json.loads((folder / DOCUMENT).read_text())
    (folder / DOCUMENT).write_text(json.dumps(document | {"kind": "another"}))
    with pytest.raises(DamageError, match="is not what was written"):
        streamed(backbone, iter(rows(12)), checkpoint=folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds something else.*letter\.txt"):
        streamed(backbone, iter(rows(3)), checkpoint=other)
    assert (other / "letter.txt").read_text() == "mine"


def test_a_table_that_grows_and_moves() -> None:
    backbone = tiny_backbone("llava")
    transcript = backbone.transcript(rows(9))
    positions = torch.arange(len(transcript))[None]
    log = TokenLog(1, torch.device("cpu"))
    for first in range(0, 9, 2):
        chunk = transcript.chunk(first, first + 2)
        start = 0 if first == 0 else transcript.spans[first][0]
        log.append(chunk, positions[:, start : start + len(chunk)])
    table = log.table()
    assert torch.equal(table.positions.long(), positions)
    assert torch.equal(table.roles, transcript.roles)
    assert torch.equal(table.demonstration, transcript.demonstration)
    log.move(-torch.arange(9))
    expected = positions - transcript.demonstration.clamp(min=0)
    assert torch.equal(log.whole().positions.long(), expected)


@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "qwen3_vl", "gemma3"])
def test_packed_keys_are_those_of_a_model_at_their_positions(family: str) -> None:
    """The oracle rotates the plain keys of every layer at positions counted by hand."""
    backbone = tiny_backbone(family)
    memory = tasm.build(backbone, rows(6), recipe="full", notice=None)
    starts = torch.tensor([one.spans[0][0] for one in memory.demonstrations])
    core = [one for one in memory.core if one is not None]
    room = memory.next_position // 2
    by = shifts_to_fit(memory.tokens, starts, core, room)
    assert by[0] == 0 and bool((by[1:] < 0).all()) and bool((by[1:] <= by[:-1]).all())
    after = memory.tokens.positions.long().clone()
    for number, one in enumerate(memory.demonstrations):
        start, end = one.spans[0]
        after[:, start:end] += by[number]
    assert int(after.max()) < room and int(after.min()) >= 0
    shifts = after[0] - memory.tokens.positions[0].long()
    moved = turned(memory.core, memory.tokens.positions, shifts, backbone.rotary)
    for number, (layer, before) in enumerate(zip(moved, memory.core, strict=True)):
        assert layer is not None and before is not None
        index = before.index[0].long()
        plain = backbone.rotary.unrotate(
            number, before.keys, memory.tokens.positions.long()[:, index]
        )
        expected = backbone.rotary.rotate(number, plain, after[:, index])
        torch.testing.assert_close(layer.keys, expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(layer.values, before.values)


def short(family: str, positions: int) -> TinyBackbone:
    """A tiny backbone that was trained for so many positions only."""
    backbone = tiny_backbone(family)
    backbone.geometry = replace(backbone.geometry, max_positions=positions)
    return backbone


@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "gemma3", "qwen3_5"])
def test_beyond_the_trained_length(family: str, tmp_path: Path) -> None:
    notices: list[str] = []
    backbone = short(family, 200)
    with pytest.raises(InputError, match="The model was trained for 200 positions"):
        tasm.build(backbone, rows(40), notice=None)
    given = {"core": "40", "bank": "10", "notice": notices.append}
    memory = streamed(backbone, iter(rows(40)), **given)
    assert memory.next_position <= 200 - 32 - 8
    noted = memory.recipe["notes"]["positions"]
    assert noted["taken"] > 200 and noted["packed"] >= 2
    assert any("packed closer" in one for one in notices)
    memory.save(tmp_path / "m.tasm")
    again = tasm.load(tmp_path / "m.tasm")
    again.check_all()
    assert again.recipe["notes"]["positions"] == noted
    one, other = (logits_after(backbone, m.cache(), [20, 21]) for m in (memory, again))
    assert torch.equal(one, other) and bool(one.isfinite().all())


def test_packed_streams_go_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unfinished, "note", Unfinished.write)
    monkeypatch.setattr("tasm.compress.streams.arriving.TOGETHER", 4)
    backbone = short("qwen2_vl", 200)
    whole = streamed(backbone, rows(30))

    def broken() -> Iterator[Demonstration]:
        yield from rows(21)
        raise Broken

    with pytest.raises(Broken):
        streamed(backbone, broken(), checkpoint=tmp_path / "u")
    same(streamed(backbone, iter(rows(30)), checkpoint=tmp_path / "u"), whole)


def test_a_query_reads_a_packed_memory_as_written_out() -> None:
    """With everything kept, the oracle is plain attention over the same keys: a cache of segments
    made by hand from the packed positions."""
    backbone = short("llava", 200)
    memory = streamed(backbone, rows(16), recipe="full", core=None, bank=None)
    noted = memory.recipe["notes"]["positions"]
    assert noted["packed"] >= 1
    for number, layer in enumerate(memory.core):
        assert layer is not None and layer.counts == (memory.logical_length,) * 2
        plain = backbone.rotary.unrotate(number, layer.keys, memory.tokens.positions.long())
        again = backbone.rotary.rotate(number, plain, memory.tokens.positions.long())
        torch.testing.assert_close(again, layer.keys, atol=1e-5, rtol=1e-5)
    starts = [int(memory.tokens.positions[0, e.spans[0][0]]) for e in memory.demonstrations]
    assert starts == sorted(starts)


def test_what_cannot_be_packed_is_refused() -> None:
    backbone = short("llava", 60)
    with pytest.raises(InputError, match="one chunk needs"):
        streamed(backbone, rows(20), chunk_tokens=60)


def test_more_pictures_than_a_table_can_number() -> None:
    backbone = tiny_backbone("llava")
    chunk = replace(backbone.transcript(rows(1)), first_image=32768)
    with pytest.raises(InputError, match="more than 32,768 pictures"):
        TokenLog(1, torch.device("cpu")).append(chunk, torch.arange(len(chunk))[None])


def test_kept_entries_alone_need_places() -> None:
    backbone = tiny_backbone("llava")
    memory = tasm.build(backbone, rows(8), recipe="full", notice=None)
    starts = torch.tensor([one.spans[0][0] for one in memory.demonstrations])
    start, end = memory.demonstrations[5].spans[0]
    index = torch.arange(start, end, dtype=torch.int32).expand(2, -1)
    keys = torch.zeros(2, end - start, 4)
    by = shifts_to_fit(memory.tokens, starts, [LayerTokens(keys, keys, index)], 10_000)
    assert by[5:].eq(0).all()  # room enough: nothing that is kept moves
    tight = shifts_to_fit(memory.tokens, starts, [LayerTokens(keys, keys, index)], 60)
    places = memory.tokens.positions[0, starts].long() + tight
    assert places[1:5].eq(places[0]).all() and places[5] > places[0]
    assert places[6:].eq(places[5]).all()
