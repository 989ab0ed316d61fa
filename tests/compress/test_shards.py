"""Memories whose demonstrations come and go: independent builds, add, remove, merge."""

from pathlib import Path
from typing import Any

import pytest
import torch

import tasm
from tasm.backbone.checkpoint.identity import Identity
from tasm.demonstrations import Demonstration, Message
from tasm.errors import BudgetError, InputError, MismatchError
from tasm.memory import TaskMemory
from tests.compress.tiny_backbone import TinyBackbone, tiny_backbone

FAMILIES = ("qwen2_vl", "llava", "idefics3", "qwen3_vl")
RECIPES = ("full", "tasm", "compact", "kvzip", "look-m", "snapkv")


@pytest.fixture(scope="module")
def backbone() -> TinyBackbone:
    return tiny_backbone()


def independent(backbone: Any, given: Any, recipe: str = "tasm", **settings: Any) -> TaskMemory:
    return tasm.build(backbone, given, recipe=recipe, mode="independent", notice=None, **settings)


def pick(*numbers: int) -> list[Demonstration]:
    """Demonstrations by number: a tiny backbone draws their tokens from it."""
    turns = (Message("user", ("q",)), Message("assistant", ("a",)))
    return [Demonstration(str(number), turns, f"{number:064x}") for number in numbers]


def rows(count: int) -> list[Demonstration]:
    return pick(*range(1, count + 1))


def ids(memory: TaskMemory) -> list[str]:
    return [one.id for one in memory.demonstrations]


def same(one: TaskMemory, other: TaskMemory) -> None:
    """The same memory, keys up to the rounding of a rotation."""
    assert ids(one) == ids(other)
    assert [e.spans for e in one.demonstrations] == [e.spans for e in other.demonstrations]
    for name in ("positions", "roles", "demonstration", "place"):
        assert torch.equal(getattr(one.tokens, name), getattr(other.tokens, name)), name
    assert one.next_position == other.next_position
    assert one.logical_length == other.logical_length
    assert one.full_bytes == other.full_bytes
    assert (one.bank is None) == (other.bank is None)
    pairs = [*zip(one.core, other.core, strict=True)]
    if one.bank is not None and other.bank is not None:
        pairs += [
            (None if a is None else a.held(), None if b is None else b.held())
            for a, b in zip(one.bank.layers, other.bank.layers, strict=True)
        ]
    same_gate(one, other)
    for mine, theirs in pairs:
        assert (mine is None) == (theirs is None)
        if mine is None or theirs is None:
            continue
        assert mine.counts == theirs.counts
        for head, count in enumerate(mine.counts):
            assert torch.equal(mine.index[head, :count], theirs.index[head, :count])
            for name in ("keys", "values", "bias"):
                a, b = getattr(mine, name), getattr(theirs, name)
                if name == "bias":  # none is one of zeros
                    zeros = torch.zeros(mine.index.shape)
                    a, b = zeros if a is None else a, zeros if b is None else b
                if a is not None and b is not None:
                    assert torch.allclose(a[head, :count], b[head, :count], atol=2e-5), name


def same_gate(one: TaskMemory, other: TaskMemory) -> None:
    """The same gate, with a reference and thresholds of the same demonstrations."""
    assert one.gate == other.gate
    assert (one.reference is None) == (other.reference is None)
    assert (one.asked is None) == (other.asked is None)
    if one.reference is None or other.reference is None:
        return
    for name in ("thresholds", "step_thresholds"):
        ours, theirs = getattr(one.reference, name), getattr(other.reference, name)
        assert (ours is None) == (theirs is None)
        for a, b in zip(ours or (), theirs or (), strict=True):
            assert (a is None) == (b is None) and a == pytest.approx(b, abs=1e-3)
    for mine, yours in zip(one.reference.layers, other.reference.layers, strict=True):
        assert (mine is None) == (yours is None)
        if mine is not None and yours is not None:
            assert torch.allclose(mine, yours, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_is_read_after_the_first_alone(family: str) -> None:
    """The oracle is the stock model over head, first and one other demonstration."""
    backbone = tiny_backbone(family)
    memory = independent(backbone, rows(4), recipe="full")
    joint = tasm.build(backbone, rows(4), recipe="full", notice=None)
    for name in ("positions", "roles", "demonstration", "place"):
        assert torch.equal(getattr(memory.tokens, name), getattr(joint.tokens, name)), name
    transcript = backbone.transcript(rows(4))
    first, third = transcript.chunk(0, 1), transcript.chunk(2, 3)
    both = torch.cat([first.input_ids, third.input_ids])
    pair = backbone.transcript(pick(1, 3))
    assert torch.equal(both, pair.input_ids)
    with torch.inference_mode():
        out = backbone.hf(**backbone.inputs(both, pair.images), use_cache=True)
    start, stop = transcript.spans[2]
    for number, layer in enumerate(memory.core):
        assert layer is not None
        stock = out.past_key_values.layers[number]
        own = slice(len(first), len(both))
        assert torch.allclose(layer.values[:, start:stop], stock.values[0, :, own], atol=1e-5)
        at = pair_positions(backbone, pair)[:, own]
        plain = backbone.rotary.unrotate(number, stock.keys[0, :, own], at)
        mine = backbone.rotary.unrotate(
            number, layer.keys[:, start:stop], memory.tokens.positions.long()[:, start:stop]
        )
        assert torch.allclose(mine, plain, atol=1e-5)


def pair_positions(backbone: Any, transcript: Any) -> torch.Tensor:
    """Positions as a joint build of these demonstrations finds them."""
    count = len(transcript.spans)
    assert count == 2
    memory = tasm.build(backbone, pick(1, 3), recipe="full", notice=None)
    return memory.tokens.positions.long()


@pytest.mark.parametrize("recipe", RECIPES)
def test_adding_is_building(backbone: TinyBackbone, recipe: str) -> None:
    whole = independent(backbone, rows(6), recipe)
    grown = independent(backbone, rows(2), recipe)
    for number in (3, 4, 5, 6):
        grown = tasm.add(grown, backbone, pick(number), notice=None)
    same(grown, whole)
    assert grown.report["bases"] == whole.report["bases"] == [-1, 0, 0, 0, 0, 0]
    assert grown.report["transcript"] == whole.report["transcript"]
    assert grown.core_bytes == whole.core_bytes == grown.report["core_bytes"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_removing_is_never_having_had(backbone: TinyBackbone, recipe: str) -> None:
    whole = independent(backbone, rows(6), recipe)
    less = tasm.remove(whole, backbone, ["3", "5"])
    same(less, independent(backbone, pick(1, 2, 4, 6), recipe))
    same(tasm.add(less, backbone, pick(5, 3), notice=None),
         independent(backbone, pick(1, 2, 4, 6, 5, 3), recipe))  # fmt: skip
    same(whole, independent(backbone, rows(6), recipe))  # untouched


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_of_every_family(family: str, tmp_path: Path) -> None:
    backbone = tiny_backbone(family)
    whole = independent(backbone, rows(5))
    whole.save(tmp_path / "a.tasm")
    less = tasm.remove(tmp_path / "a.tasm", backbone, "2")
    less.save(tmp_path / "a.tasm", overwrite=True)
    same(tasm.load(tmp_path / "a.tasm"), independent(backbone, pick(1, 3, 4, 5)))


def test_merging_memories_of_the_same_first(backbone: TinyBackbone) -> None:
    one, other = (independent(backbone, pick(*numbers)) for numbers in ((1, 2, 3), (1, 4, 3, 5)))
    same(tasm.merge(backbone, [one, other]), independent(backbone, rows(5)))


def test_merging_memories_of_different_firsts(backbone: TinyBackbone, tmp_path: Path) -> None:
    one, other = (independent(backbone, pick(*numbers)) for numbers in ((1, 2), (3, 4, 2)))
    one.save(tmp_path / "one.tasm")
    both = tasm.merge(backbone, [tmp_path / "one.tasm", other])
    assert ids(both) == ["1", "2", "3", "4"]
    assert both.report["bases"] == [-1, 0, -1, 2]
    for mine, first, second in zip(both.core, one.core, other.core, strict=True):
        assert mine is not None and first is not None and second is not None
        heads = first.counts[0]
        assert torch.equal(mine.values[:, :heads], first.values[:, :heads])
        start = other.demonstrations[0].spans[0][0]
        end = other.demonstrations[1].spans[0][1]
        for head in range(2):
            index = second.index[head]
            wanted = second.values[head, (index >= start) & (index < end)]
            assert torch.equal(mine.values[head, heads:], wanted)
    with pytest.raises(InputError, match="read after 3"):
        tasm.remove(both, backbone, ["3"])
    assert ids(tasm.remove(both, backbone, ["3", "4"])) == ["1", "2"]
    left = tasm.remove(both, backbone, ["1", "2"])
    assert ids(left) == ["3", "4"] and left.report["bases"] == [-1, 0]
    same(left, independent(backbone, pick(3, 4)))


def test_nothing_of_it_stays(backbone: TinyBackbone, tmp_path: Path) -> None:
    memory = independent(backbone, rows(5), recipe="full")
    folder = tmp_path / "m.tasm"
    memory.save(folder)
    start, stop = memory.demonstrations[2].spans[0]
    traces = [memory.demonstrations[2].content_hash.encode()]
    for layer in memory.core[1:]:  # the first layer's values are those of any token of that id
        assert layer is not None
        traces += [layer.values[0, token].numpy().tobytes() for token in range(start, stop)]
    held = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert all(trace in held for trace in traces)
    tasm.remove(folder, backbone, ["3"]).save(folder, overwrite=True)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".lock", ""}
    held = b"".join(path.read_bytes() for path in files)
    assert not any(trace in held for trace in traces)


@pytest.mark.parametrize("mode", ["joint", "streaming"])
def test_adding_to_what_saw_everything(backbone: TinyBackbone, mode: Any) -> None:
    memory = tasm.build(backbone, rows(4), mode=mode, notice=None)
    notices: list[str] = []
    more = tasm.add(memory, backbone, rows(6), notice=notices.append)
    assert ids(more) == ["1", "2", "3", "4", "5", "6"]
    assert any("already and left out: 1, 2, 3, 4" in one for one in notices)
    assert any("read after what was kept of the others" in one for one in notices)
    for mine, theirs in zip(more.core, memory.core, strict=True):
        assert mine is not None and theirs is not None
        for head, count in enumerate(theirs.counts):
            assert torch.equal(mine.keys[head, :count], theirs.keys[head, :count])
    assert more.report["core_tokens"] > memory.report["core_tokens"] + 2
    whole = tasm.build(backbone, rows(6), mode=mode, notice=None)
    assert torch.equal(more.tokens.positions, whole.tokens.positions)
    with pytest.raises(InputError, match=f"built in mode {mode}.*mode independent"):
        tasm.remove(more, backbone, ["5"])


def test_a_prompt_that_repeats_all_of_it_is_refused(backbone: TinyBackbone) -> None:
    memory = tasm.remove(independent(backbone, rows(4)), backbone, ["2"])
    transcript = backbone.transcript(pick(1, 3, 4))
    inputs = backbone.inputs(transcript.input_ids, transcript.images)
    with pytest.raises(InputError, match="would be read twice"):
        backbone.hf(**inputs, past_key_values=memory.cache(), use_cache=True)
    other = backbone.transcript(pick(1, 4, 3))
    backbone.hf(
        **backbone.inputs(other.input_ids, other.images),
        past_key_values=memory.cache(),
        use_cache=True,
    )


def test_budgets_of_tokens_and_bytes_hold(backbone: TinyBackbone) -> None:
    for given in ({"core": "40", "bank": "30"}, {"core": "60"}):
        memory = independent(backbone, rows(6), recipe="kvzip-even-layers", **given)
        assert memory.report["core_tokens"] <= int(given["core"])
        assert memory.report["core_tokens"] > 0.6 * int(given["core"])
        assert memory.report["bank_tokens"] <= int(given.get("bank", 0))
    memory = independent(backbone, rows(6), recipe="kvzip-even-layers", core="30kB")
    assert 15_000 < memory.core_bytes <= 30_000


def test_a_plan_refuses_what_a_build_refuses(backbone: TinyBackbone) -> None:
    for make in (tasm.plan, tasm.build):
        with pytest.raises(BudgetError, match="the smallest possible"):
            make(backbone, rows(6), mode="independent", core="12", notice=None)
        with pytest.raises(InputError, match="cannot be taken apart"):
            make(tiny_backbone("gemma3"), rows(3), mode="independent", notice=None)


def test_refusals(backbone: TinyBackbone) -> None:
    memory = independent(backbone, rows(3))
    with pytest.raises(InputError, match=r"no demonstration '22'.*It holds 1, 2, 3"):
        tasm.remove(memory, backbone, ["22"])
    with pytest.raises(InputError, match="Others were read after 1"):
        tasm.remove(memory, backbone, ["1"])
    with pytest.raises(InputError, match="a memory needs one"):
        tasm.remove(memory, backbone, ["1", "2", "3"])
    with pytest.raises(InputError, match="No id was given"):
        tasm.remove(memory, backbone, [])
    with pytest.raises(InputError, match="two or more to merge"):
        tasm.merge(backbone, [memory])
    joint = tasm.build(backbone, rows(3), notice=None)
    with pytest.raises(InputError, match="only independent memories can be merged"):
        tasm.merge(backbone, [memory, joint])
    half = independent(backbone, rows(3), store="float16")
    with pytest.raises(InputError, match="another type of numbers"):
        tasm.merge(backbone, [memory, half])
    with pytest.raises(InputError, match="one demonstration at a time"):
        independent(backbone, rows(3), chunk_tokens=40)
    windowed = tiny_backbone("gemma3")
    with pytest.raises(InputError, match=r"sliding attention.*mode joint or streaming"):
        independent(windowed, rows(3))
    stranger = memory.replaced(identity=Identity({"weights": "1" * 64}))
    for change in (
        lambda: tasm.add(stranger, backbone, rows(4), notice=None),
        lambda: tasm.remove(stranger, backbone, ["2"]),
        lambda: tasm.merge(backbone, [memory, stranger]),
    ):
        with pytest.raises(MismatchError):
            change()


def test_half_precision_goes_on_in_half_precision(backbone: TinyBackbone) -> None:
    memory = independent(backbone, rows(3), store="float16")
    more = tasm.add(memory, backbone, rows(5), notice=None)
    assert more.dtype == "float16"
    assert more.full_bytes * memory.logical_length == memory.full_bytes * more.logical_length
    less = tasm.remove(more, backbone, ["4"])
    assert less.dtype == "float16" and ids(less) == ["1", "2", "3", "5"]


@pytest.mark.parametrize("recipe", ["tasm", "compact", "snapkv"])
def test_shown_to_all_others(backbone: TinyBackbone, recipe: str) -> None:
    whole = independent(backbone, rows(7), recipe, shown=3)
    assert whole.report["bases"] == [-1, 0, 1, 2, 2, 2, 2]
    assert whole.recipe["settings"]["shown"] == 3
    grown = independent(backbone, rows(2), recipe, shown=3)
    for numbers in ((3, 4), (5,), (6, 7)):
        grown = tasm.add(grown, backbone, pick(*numbers), notice=None)
    same(grown, whole)
    assert grown.report["bases"] == whole.report["bases"]
    less = tasm.remove(whole, backbone, ["5", "7"])
    same(less, independent(backbone, pick(1, 2, 3, 4, 6), recipe, shown=3))
    for one in ("1", "2", "3"):
        with pytest.raises(InputError, match=f"Others were read after {one}"):
            tasm.remove(whole, backbone, [one])
    same(
        tasm.remove(whole, backbone, ["3", "4", "5", "6", "7"]),
        independent(backbone, rows(2), recipe, shown=3),
    )


def test_shown_ones_are_read_as_in_one_prompt(backbone: TinyBackbone) -> None:
    """With everything kept, a demonstration's keys are those it has after the shown ones alone."""
    memory = independent(backbone, rows(6), "full", shown=3)
    for number in (3, 5):
        numbers = (1, 2, 3, number + 1)
        prompt = tasm.build(backbone, pick(*numbers), recipe="full", notice=None)
        start, stop = memory.demonstrations[number].spans[0]
        begin, end = prompt.demonstrations[3].spans[0]
        for layer, (mine, theirs) in enumerate(zip(memory.core, prompt.core, strict=True)):
            assert mine is not None and theirs is not None
            assert torch.allclose(
                mine.values[:, start:stop], theirs.values[:, begin:end], atol=1e-5
            )
            a, b = (
                backbone.rotary.unrotate(layer, keys, at)
                for keys, at in (
                    (mine.keys[:, start:stop], memory.tokens.positions.long()[:, start:stop]),
                    (theirs.keys[:, begin:end], prompt.tokens.positions.long()[:, begin:end]),
                )
            )
            assert torch.allclose(a, b, atol=1e-5)
    joint = tasm.build(backbone, rows(3), recipe="full", notice=None)
    same(independent(backbone, rows(3), "full", shown=3), joint)


def test_merging_what_was_shown_alike(backbone: TinyBackbone) -> None:
    one, other = (
        independent(backbone, pick(*numbers), shown=2) for numbers in ((1, 2, 3), (1, 2, 4, 3))
    )
    same(tasm.merge(backbone, [one, other]), independent(backbone, rows(4), shown=2))
    unlike = independent(backbone, pick(1, 3, 2), shown=2)
    both = tasm.merge(backbone, [one, unlike])
    assert ids(both) == ["1", "2", "3", "3"]  # once as it is read after 2, once as others saw it
    assert both.report["bases"] == [-1, 0, 1, 0]


def test_shown_means_independent(backbone: TinyBackbone) -> None:
    with pytest.raises(InputError, match="shown=2 has no effect in mode joint"):
        tasm.build(backbone, rows(3), shown=2)
    with pytest.raises(InputError, match="shown"):
        independent(backbone, rows(3), shown=0)


@pytest.mark.parametrize(("recipe", "kind"), [("tasm", "js"), ("tasm-weighing-gate", "missing")])
def test_the_gate_follows(recipe: str, kind: str, backbone: TinyBackbone, tmp_path: Path) -> None:
    """A gate is taught by the queries of the demonstrations that are there, and no others."""
    sizes = {"core": "30%", "bank": "60%"}  # of which the bank outweighs some cores
    whole = independent(backbone, rows(6), recipe, **sizes)
    assert whole.gate.kind == kind and whole.reference is not None and whole.asked is not None
    assert whole.core_bytes > whole.replaced(asked=None).core_bytes
    assert len(whole.asked.index) == 6 * 2  # answers of two tokens
    notices: list[str] = []
    less = tasm.remove(whole, backbone, ["4"], notice=notices.append)
    assert not notices and less.reference is not None and less.asked is not None
    same_gate(less, independent(backbone, pick(1, 2, 3, 5, 6), recipe, **sizes))
    assert less.reference.thresholds != whole.reference.thresholds
    start, end = whole.demonstrations[3].spans[0]
    gone = whole.asked.between(start, end)
    less.save(tmp_path / "less.tasm")
    held = b"".join(one.read_bytes() for one in (tmp_path / "less.tasm").glob("*.safetensors"))
    for queries in gone.layers[1:]:
        assert queries is not None and queries[0, 0].numpy().tobytes() not in held
    again = tasm.load(tmp_path / "less.tasm")
    again.check_all()
    same(again, less)
    same_gate(
        tasm.add(again, backbone, pick(4), notice=None),
        independent(backbone, pick(1, 2, 3, 5, 6, 4), recipe, **sizes),
    )
    for store in ("int8", "int4"):
        packed = less.packed(store, backbone)  # type: ignore[arg-type]
        packed.save(tmp_path / f"{store}.tasm")
        opened = tasm.load(tmp_path / f"{store}.tasm")
        opened.check_all()
        assert opened.asked is not None and torch.equal(opened.asked.index, less.asked.index)
        more = tasm.add(opened, backbone, pick(4), notice=None)
        assert more.gate.kind == kind and more.reference is not None


def test_a_memory_without_its_queries_opens_its_gate(backbone: TinyBackbone) -> None:
    old = independent(backbone, rows(4)).replaced(asked=None)
    notices: list[str] = []
    more = tasm.add(old, backbone, pick(5), notice=notices.append)
    assert more.gate.kind == "always" and more.reference is None and more.asked is None
    assert any("were not kept" in one for one in notices)
    joint = tasm.build(backbone, rows(4), recipe="tasm", notice=None)
    assert tasm.add(joint, backbone, pick(5), notice=None).gate.kind == "always"
    assert independent(backbone, rows(4), "compact").asked is None


def test_a_gate_that_weighs_goes_on_without_queries(backbone: TinyBackbone) -> None:
    """It compares with nothing of the demonstrations: what was measured stays when some are added;
    when some go, nothing of them stays, and the gate has its own 3 nats."""
    for mode in ("joint", "independent"):
        built = tasm.build(backbone, rows(5), recipe="tasm-weighing-gate", mode=mode, notice=None)
        built, measured = built.replaced(asked=None), built.reference
        assert measured is not None and built.gate.kind == "missing"
        more = tasm.add(built, backbone, pick(6), notice=None)
        assert more.gate == built.gate and more.reference is not None
        assert more.reference.thresholds == measured.thresholds
    less = tasm.remove(built, backbone, ["4"], notice=None)
    assert less.gate == built.gate and less.reference is None
    assert less.cache().extra._threshold(0, True) == 3.0
