"""Packed memories: saved and opened, searched, damaged and changed by hand."""

import contextlib
import itertools
import json
import struct

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import tasm
from tasm.backbone.attention.hooks import attach
from tasm.backbone.attention.segment import Segment
from tasm.errors import DamageError, FormatError, InputError, MismatchError, TasmError
from tasm.memory import Bank
from tasm.memory.packing.segment import PackedSegment
from tasm.memory.packing.vectors import STORES
from tests.memory.memories import brought, packed_memory, task_memory
from tests.memory.test_files import assert_same, flip, rewrite, with_bytes


@pytest.fixture
def saved(tmp_path):
    packed_memory(core=(9, 5), bias=True).save(tmp_path / "m.tasm")
    return tmp_path / "m.tasm"


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    "options",
    [{}, {"core": (9, 0), "bank": (0, 7)}, {"bank": None, "bias": True}, {"dtype": torch.bfloat16}],
)
def test_what_is_saved_is_what_is_loaded(store, options, tmp_path):
    memory = packed_memory(store, **options)
    memory.save(tmp_path / "m.tasm")
    loaded = tasm.load(tmp_path / "m.tasm")
    loaded.check_all()
    assert_same(memory, loaded)
    assert (loaded.packing, loaded.dtype) == (store, memory.dtype)
    assert loaded.contents.core.nbytes == loaded.core_bytes
    plain = task_memory(**options)
    assert loaded.core_counts == plain.core_counts and loaded.bank_counts == plain.bank_counts
    for name in ("positions", "roles", "demonstration", "place"):
        assert torch.equal(getattr(loaded.tokens, name), getattr(plain.tokens, name))


def test_the_same_memory_gives_the_same_bytes(tmp_path):
    packed_memory().save(tmp_path / "a.tasm")
    tasm.load(tmp_path / "a.tasm").save(tmp_path / "b.tasm")
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("a.tasm", "b.tasm")
    )
    assert first == second


def test_a_packed_memory_says_so_and_a_plain_one_stays_of_version_1(saved, tmp_path):
    task_memory().save(tmp_path / "plain.tasm")
    plain = json.loads((tmp_path / "plain.tasm" / "memory.json").read_bytes())
    packed = json.loads((saved / "memory.json").read_bytes())
    assert (plain["format_version"], packed["format_version"]) == (1, 2)
    assert "packing" not in plain and packed["packing"] == "int4"
    shown = tasm.load(saved).public()
    assert (shown["packing"], shown["format_version"]) == ("int4", 2)
    assert "int4, read as float32" in tasm.load(saved).summary()


def test_a_search_finds_in_a_packed_bank_what_the_plain_one_has(saved):
    loaded, plain = tasm.load(saved), task_memory(core=(9, 5), bias=True)
    query = torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(3))
    found = loaded.bank.search(0, query, 6)
    held = loaded.bank.layers[0].held()
    everything = Bank([held, None]).search(0, query, 6)
    assert torch.equal(found.index, everything.index)
    assert torch.equal(found.values, everything.values)
    wanted = plain.bank.search(0, query, 6).index.flatten(1).tolist()[0]
    assert len(set(wanted) & set(found.index.flatten(1).tolist()[0])) >= len(set(wanted)) - 2


def test_bank_layers_are_read_when_first_searched(tmp_path, monkeypatch):
    monkeypatch.setattr("tasm.memory.disk.blocks.BLOCK", 64)
    packed_memory(bank=(20, 20)).save(tmp_path / "m.tasm")
    memory = tasm.load(tmp_path / "m.tasm")
    brought(memory)
    file = memory.contents.files[1]
    assert 0 < sum(file._checked) < len(file._checked)  # the second layer's are not


def test_what_is_known_may_change_and_keys_stay_packed(saved):
    memory = tasm.load(saved)
    changed = memory.replaced(demonstrations=())
    assert changed.packing == "int4" and changed.demonstrations == ()
    assert changed.place is None and changed.core_bytes == memory.core_bytes
    assert memory.store_as(torch.float16).packing is None


@pytest.mark.parametrize("part", range(0, 100, 5))
@pytest.mark.parametrize("pattern", ["memory.json", "core-*", "bank-*"])
def test_one_flipped_byte_anywhere_is_found(saved, pattern, part):
    path = next(saved.glob(pattern))
    flip(path, path.stat().st_size * part // 100)
    with pytest.raises(TasmError):
        tasm.load(saved).check_all()


def test_a_damaged_core_stops_the_first_cache(saved):
    path = next(saved.glob("core-*"))
    flip(path, path.stat().st_size - 3)
    with pytest.raises(DamageError):
        tasm.load(saved).cache()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("packing", None),
        ("packing", "int2"),
        ("packing", 4),
        ("format_version", 1),
        ("format_version", 3),
    ],
)
def test_packing_and_version_must_agree(saved, field, value):
    rewrite(saved, lambda document: document.update({field: value}))
    with pytest.raises(FormatError, match=r"packing|format_version|newer"):
        tasm.load(saved)


@pytest.mark.parametrize(("field", "value"), [("packing", "int8"), ("core_tokens", [3, 3])])
def test_files_that_do_not_fit_the_manifest_are_damage(saved, field, value):
    rewrite(saved, lambda document: document.update({field: value}))
    with pytest.raises(DamageError, match="keys"):
        tasm.load(saved)


def content_of(folder, kind):
    """The bytes of the file that the manifest names."""
    record = json.loads((folder / "memory.json").read_bytes())["files"][kind]
    return (folder / record["name"]).read_bytes()


def changed_tensor(folder, kind, name, data):
    """The tensor of that name holds other bytes, and every hash is right."""
    content = content_of(folder, kind)
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    start, stop = header[name]["data_offsets"]
    body = bytearray(content[8 + length :])
    assert len(data) == stop - start
    body[start:stop] = data
    with_bytes(folder, kind, content[: 8 + length] + bytes(body))


def tensor_bytes(folder, kind, name):
    content = content_of(folder, kind)
    length = struct.unpack("<Q", content[:8])[0]
    start, stop = json.loads(content[8 : 8 + length])[name]["data_offsets"]
    return content[8 + length + start : 8 + length + stop]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("core", "tokens"),
        ("core", "index"),
        ("core", "index.ends"),
        ("core", "rotation.full.pairs"),
        ("core", "rotation.full.frequencies"),
        ("core", "bias.lines"),
        ("core", "means"),
        ("bank", "index"),
        ("bank", "index.ends"),
    ],
)
@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
def test_tensors_that_cannot_be_are_damage(saved, kind, name, filler):
    sound = {"rotation.full.frequencies", "bias.lines", "means"}
    if name in sound and filler == b"\0":
        pytest.skip("zeros are sound there")
    changed_tensor(saved, kind, name, filler * len(tensor_bytes(saved, kind, name)))
    with pytest.raises(DamageError):
        tasm.load(saved).check_all()


def test_random_bytes_in_any_tensor_are_refused_or_finite(saved):
    draws = torch.Generator().manual_seed(0)
    names = ["tokens", "keys", "values", "index", "index.ends", "means", "rotation.full.pairs"]
    names.append("bias")
    for name, _ in itertools.product(names, range(20)):
        original = tensor_bytes(saved, "core", name)
        place = int(torch.randint(len(original), (), generator=draws))
        other = bytearray(original)
        other[place] ^= 1 << int(torch.randint(8, (), generator=draws))
        changed_tensor(saved, "core", name, bytes(other))
        with contextlib.suppress(DamageError):
            memory = tasm.load(saved)
            assert all(bool(layer.keys.isfinite().all()) for layer in memory.core)
        changed_tensor(saved, "core", name, original)
    tasm.load(saved).check_all()


def test_other_models_and_stores_are_refused(saved):
    model = tasm.load_model("reference")
    with pytest.raises(MismatchError):
        task_memory().packed("int4", model)
    with pytest.raises(InputError, match="int2"):
        task_memory().packed("int2", model)


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


@pytest.mark.parametrize("options", [{}, {"core": (9, 5), "bias": True}, {"core": (7, 0)}])
def test_a_core_that_stays_packed_answers_as_one_unpacked_once(options, model, tmp_path):
    packed_memory(**options).save(tmp_path / "m.tasm")
    memory = tasm.load(tmp_path / "m.tasm")
    ids = torch.randint(32, (3, 4), generator=torch.Generator().manual_seed(4))
    said = []
    for unpack in ("once", "each step"):
        cache = memory.cache(gate="never", unpack=unpack)
        with torch.no_grad():
            first = model(ids, past_key_values=cache).logits
            said.append((first, model(ids[:, :1], past_key_values=cache).logits))
        kinds = {type(one) for segments in cache.segments for one in segments or ()}
        assert kinds == {PackedSegment if unpack == "each step" else Segment}
    assert torch.equal(said[0][0], said[1][0]) and torch.equal(said[0][1], said[1][1])
    with torch.no_grad():
        beams = model.generate(
            ids, past_key_values=memory.cache(unpack="each step"), num_beams=2, max_new_tokens=3
        )
        again = model.generate(ids, past_key_values=memory.cache(), num_beams=2, max_new_tokens=3)
    assert torch.equal(beams, again)
    held = memory.cache(unpack="each step").segments[0][0].source.packed
    assert held.nbytes < 0.3 * memory.core[0].nbytes


def test_a_packed_segment_serves_another_dtype(model):
    segment = packed_memory().cache(unpack="each step").segments[0][0]
    live = torch.empty(0, dtype=torch.bfloat16)
    other = segment.as_live(live)
    assert other is segment.as_live(live) and other.as_live(live) is other
    assert other.keys.dtype == torch.bfloat16 and other.lies_as(live)
    assert torch.equal(other.values, segment.values.to(torch.bfloat16))


def test_a_way_of_unpacking_that_there_is_not():
    with pytest.raises(InputError, match="unpack"):
        task_memory().cache(unpack="never")
