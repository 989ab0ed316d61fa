"""A memory on disk: what comes back, what is refused, what is never left behind."""

import errno
import hashlib
import json
import multiprocessing
import os
import resource
import warnings
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
import safetensors.torch
import torch
from hypothesis import given

import tasm
from tasm.errors import (
    DamageError,
    FormatError,
    InputError,
    MismatchError,
    WorkError,
)
from tasm.memory import GateSettings, LayerTokens, TaskMemory
from tasm.memory.disk import blocks
from tasm.memory.disk import folder as store
from tests.memory.memories import identity, task_memory

QUERY = torch.randn(1, 2, 2, 8, generator=torch.Generator().manual_seed(9))


@pytest.fixture
def saved(tmp_path) -> Path:
    task_memory().save(tmp_path / "birds.tasm")
    return tmp_path / "birds.tasm"


def same_layer(first: LayerTokens | None, second: LayerTokens | None) -> bool:
    if first is None or second is None:
        return first is second
    parts = [(getattr(first, n), getattr(second, n)) for n in ("keys", "values", "index", "bias")]
    return first.lengths == second.lengths and all(
        a is b is None or (a.dtype == b.dtype and torch.equal(a, b)) for a, b in parts
    )


def assert_same(first: TaskMemory, second: TaskMemory) -> None:
    for one, other in zip(first.core, second.core, strict=True):
        assert same_layer(one, other)
    assert (first.bank is None) == (second.bank is None)
    if first.bank is not None and second.bank is not None:
        for one, other in zip(first.bank.layers, second.bank.layers, strict=True):
            assert same_layer(one and one.held(), other and other.held())
    for part in ("positions", "roles", "demonstration", "place"):
        assert torch.equal(getattr(first.tokens, part), getattr(second.tokens, part))
    assert (first.reference is None) == (second.reference is None)
    if first.reference is not None and second.reference is not None:
        assert first.reference.thresholds == second.reference.thresholds
        assert first.reference.step_thresholds == second.reference.step_thresholds
        for a, b in zip(first.reference.layers, second.reference.layers, strict=True):
            assert (a is None) == (b is None) and (a is None or torch.equal(a, b))
    for a, b in zip(first.states, second.states, strict=True):
        assert (a is None) == (b is None)
        assert all(torch.equal(a[name], b[name]) for name in a or {})
    plain = ("next_position", "logical_length", "full_bytes", "core_bytes", "bank_bytes", "dtype")
    plain += ("geometry", "identity", "layout", "recipe", "gate", "demonstrations", "report")
    plain += ("core_counts", "bank_counts", "model_name")
    for name in plain:
        assert getattr(first, name) == getattr(second, name), name


counts = st.tuples(st.integers(0, 9), st.integers(0, 9))


@given(
    core=counts,
    bank=st.none() | counts,
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_what_is_saved_is_what_is_loaded(core, bank, bias, dtype, seed, tmp_path_factory):
    memory = task_memory(core=core, bank=bank, bias=bias, dtype=dtype, seed=seed)
    folder = tmp_path_factory.mktemp("memories") / "m.tasm"
    memory.save(folder)
    loaded = tasm.load(folder)
    assert_same(memory, loaded)
    loaded.check_all()
    assert loaded.contents.core.nbytes == memory.core_bytes


def test_linear_states_and_layers_without_tokens_come_back(tmp_path):
    memory = task_memory(bank=None)
    state = {"conv.0": torch.randn(1, 4, 3), "recurrent.0": torch.randn(1, 2, 4, 4)}
    hybrid = replace(memory.geometry, layer_kinds=("full", "linear"))
    memory = memory.replaced(core=[memory.core[0], None], states=[None, state], geometry=hybrid)
    memory.save(tmp_path / "m.tasm")
    assert_same(memory, tasm.load(tmp_path / "m.tasm"))
    assert memory.core_bytes >= sum(part.nbytes for part in state.values())


def test_the_same_memory_gives_the_same_bytes(tmp_path):
    task_memory().save(tmp_path / "a.tasm")
    tasm.load(tmp_path / "a.tasm").save(tmp_path / "b.tasm")
    first = {p.name: p.read_bytes() for p in (tmp_path / "a.tasm").iterdir()}
    second = {p.name: p.read_bytes() for p in (tmp_path / "b.tasm").iterdir()}
    assert first == second


def test_safetensors_itself_reads_the_files(saved):
    memory = task_memory()
    core = safetensors.torch.load_file(next(saved.glob("core-*")))
    assert torch.equal(core["layers.1.keys"], memory.core[1].keys)
    assert torch.equal(core["tokens.place"], memory.tokens.place)
    assert torch.equal(core["gate.0"], memory.reference.layers[0])
    bank = safetensors.torch.load_file(next(saved.glob("bank-*")))
    assert torch.equal(bank["layers.0.values"], memory.bank.layers[0].held().values)


def test_manifest_hashes_are_those_of_the_files(saved):
    manifest = json.loads((saved / "memory.json").read_bytes())
    for kind in ("core", "bank"):
        record = manifest["files"][kind]
        data = (saved / record["name"]).read_bytes()
        assert record["sha256"] == hashlib.sha256(data).hexdigest()
        assert record["name"] == f"{kind}-{record['sha256'][:16]}.safetensors"
        assert record["bytes"] == len(data)


def test_files_are_little_larger_than_core_and_bank(tmp_path):
    memory = task_memory(core=(3000, 3000), bank=(9000, 9000), total=20000)
    memory = memory.replaced(demonstrations=())
    written = memory.save(tmp_path / "m.tasm")
    assert written == sum(p.stat().st_size for p in (tmp_path / "m.tasm").rglob("*"))
    assert written <= memory.core_bytes + memory.bank_bytes + 256 * 1024


def test_a_held_and_a_stored_memory_retrieve_alike(saved):
    held, stored = task_memory().cache().extra, tasm.load(saved).cache().extra
    for layer in range(2):
        first, second = held(layer, QUERY, 0.4), stored(layer, QUERY, 0.4)
        assert torch.equal(first.keys, second.keys)
        assert torch.equal(first.values, second.values)
    assert held.statistics.divergence() == stored.statistics.divergence()


def test_the_bank_may_be_put_on_the_device(saved):
    first = tasm.load(saved).cache(bank_on="device").extra
    second = tasm.load(saved).cache().extra
    assert torch.equal(first(0, QUERY, 0.4).keys, second(0, QUERY, 0.4).keys)


def test_caches_share_segments_and_ragged_banks_work_from_disk(tmp_path):
    task_memory(core=(7, 3), bank=(11, 2)).save(tmp_path / "m.tasm")
    memory = tasm.load(tmp_path / "m.tasm")
    one, other = memory.cache(), memory.cache(gate="never")
    assert one.segments[0][0].keys is other.segments[0][0].keys
    assert one.segments[0][0].keys.data_ptr() == memory.core[0].keys.data_ptr()
    assert other.extra is None
    segment = one.extra(0, QUERY, 0.4)
    assert (segment.bias[0, 1] > -1e20).sum() == 2


@pytest.mark.parametrize("granularity", ["token", "neighbourhood", "image"])
def test_granularities_bring_as_many_tokens(tmp_path, granularity):
    memory = task_memory(gate=GateSettings(kind="always", granularity=granularity))
    memory.save(tmp_path / "m.tasm")
    for either in (memory, tasm.load(tmp_path / "m.tasm")):
        segment = either.cache().extra(0, QUERY, 0.4)
        assert segment.keys.shape[2] == memory.gate.tokens_to_retrieve(56)
        places = segment.index[0, 0]
        assert len(set(places.tolist())) == len(places)


def test_stored_in_half_precision(tmp_path):
    memory = task_memory().store_as(torch.bfloat16)
    memory.save(tmp_path / "m.tasm")
    loaded = tasm.load(tmp_path / "m.tasm")
    assert loaded.dtype == "bfloat16"
    assert loaded.full_bytes * 2 == task_memory().full_bytes
    assert torch.equal(loaded.core[0].keys, task_memory().core[0].keys.bfloat16())
    assert loaded.cache(dtype=torch.float32).segments[0][0].keys.dtype == torch.float32


def test_keys_too_large_for_float16_are_refused():
    memory = task_memory(bank=None)
    layer = LayerTokens(memory.core[0].keys * 1e6, memory.core[0].values, memory.core[0].index)
    with pytest.raises(InputError, match="65504"):
        memory.replaced(core=[layer, None]).store_as(torch.float16)


# ---------------------------------------------------------------------- damage


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("part", range(0, 100, 4))
@pytest.mark.parametrize("pattern", ["memory.json", "core-*", "bank-*", "pictures/*"])
def test_one_flipped_byte_anywhere_is_found(tmp_path, pattern, part):
    folder = tmp_path / "m.tasm"
    task_memory().save(folder, pictures={"e" * 64: b"\xff\xd8\xff" + bytes(100)})
    path = next(folder.glob(pattern))
    flip(path, path.stat().st_size * part // 100)
    with pytest.raises(DamageError, match=path.name.split("-")[0]) as caught:
        tasm.load(folder).check_all()
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("part", range(0, 100, 7))
def test_a_damaged_core_stops_the_first_answer(saved, part):
    path = next(saved.glob("core-*"))
    flip(path, path.stat().st_size * part // 100)
    with pytest.raises(DamageError, match="core-"):
        tasm.load(saved).cache(gate="never")


def test_opening_reads_no_block_but_those_of_the_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 1024)
    task_memory(bank=(200, 150), total=400).save(tmp_path / "m.tasm")
    memory = tasm.load(tmp_path / "m.tasm")
    for file in memory.contents.files:
        header = 8 + int.from_bytes(file.path.read_bytes()[:8], "little")
        assert sum(file._checked) == -(-header // 1024) < len(file._checked)


def answers(memory: TaskMemory) -> list[torch.Tensor]:
    retrieval = memory.cache(gate="always").extra
    return [retrieval(layer, QUERY, 0.4).values for layer in range(2)]


def test_a_damaged_bank_block_stops_the_search_or_was_not_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 256)
    folder = tmp_path / "m.tasm"
    task_memory(bank=(200, 150), total=400).save(folder)
    right = answers(tasm.load(folder))
    path = next(folder.glob("bank-*"))
    whole = path.read_bytes()
    outcomes = set()
    for place in range(0, len(whole), 509):
        flip(path, place)
        try:
            got = answers(tasm.load(folder))
        except DamageError:
            outcomes.add("stopped")
        else:
            outcomes.add("not needed")
            assert all(torch.equal(a, b) for a, b in zip(got, right, strict=True))
        with pytest.raises(DamageError):
            tasm.load(folder).check_all()
        path.write_bytes(whole)
    assert outcomes == {"stopped", "not needed"}


@pytest.mark.parametrize("pattern", ["core-*", "bank-*"])
def test_truncated_and_missing_files_are_found_when_opened(saved, pattern):
    path = next(saved.glob(pattern))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamageError, match="truncated"):
        tasm.load(saved)
    path.write_bytes(b"")
    with pytest.raises(DamageError, match="0 bytes"):
        tasm.load(saved)
    path.unlink()
    with pytest.raises(DamageError, match="missing"):
        tasm.load(saved)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"digest": 3}'])
def test_unreadable_manifests_are_damage(saved, text):
    (saved / "memory.json").write_bytes(text)
    with pytest.raises(DamageError, match=r"memory\.json"):
        tasm.load(saved)


def test_a_missing_manifest_is_damage_where_there_was_a_memory(saved, tmp_path):
    (saved / "memory.json").unlink()
    with pytest.raises(DamageError, match="missing"):
        tasm.load(saved)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not a task memory"):
        tasm.load(tmp_path / "empty")
    with pytest.raises(InputError, match="does not exist"):
        tasm.load(tmp_path / "nowhere.tasm")


def rewrite(folder: Path, change) -> None:
    """Change the manifest and give it the digest that belongs to it."""
    document = json.loads((folder / "memory.json").read_bytes())
    change(document)
    document["digest"] = "0" * 64
    text = json.dumps(document, indent=1).encode() + b"\n"
    digest = hashlib.sha256(text).hexdigest().encode()
    (folder / "memory.json").write_bytes(text.replace(b"0" * 64, digest, 1))


def test_a_newer_format_is_refused_as_such(saved):
    rewrite(saved, lambda document: document.update(format_version=3))
    with pytest.raises(FormatError, match="newer tasm") as caught:
        tasm.load(saved)
    assert caught.value.exit_code == 2


def test_unknown_fields_are_tolerated_with_a_warning(saved):
    rewrite(saved, lambda document: document.update(colour="blue"))
    with pytest.warns(UserWarning, match="'colour' is unknown"):
        assert_same(tasm.load(saved), task_memory())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "something else"),
        ("recipe", []),
        ("next_position", "12"),
        ("next_position", True),
        ("core_tokens", [1.5, 2]),
        ("core_tokens", [[-1, 2], 2]),
        ("geometry", {"layers": 2}),
        ("geometry", {"layer_kinds": 3}),
        ("gate", {"kind": "sometimes"}),
        ("gate", {"colour": "blue"}),
        ("layout", {"colour": "blue"}),
        ("model", {}),
        ("demonstrations", [{"id": "x"}]),
        ("sizes", {}),
        ("dtype", "os"),
        ("core_tokens", [12]),
        ("core_tokens", [[12, 12, 12], 12]),
        ("bank_tokens", []),
        ("files", {}),
    ],
)
def test_fields_of_the_wrong_kind_are_refused_with_a_sentence(saved, field, value):
    rewrite(saved, lambda document: document.update({field: value}))
    with pytest.raises(FormatError):
        tasm.load(saved)


def test_a_missing_field_is_named(saved):
    rewrite(saved, lambda document: document.pop("logical_length"))
    with pytest.raises(FormatError, match="'logical_length' is missing"):
        tasm.load(saved)


@pytest.mark.parametrize("name", ["../core-0123456789abcdef.safetensors", "/etc/passwd", "core"])
def test_files_elsewhere_are_never_opened(saved, name):
    rewrite(saved, lambda document: document["files"]["core"].update(name=name))
    with pytest.raises(FormatError, match="files"):
        tasm.load(saved)


def test_pictures_elsewhere_are_never_opened(saved):
    record = {"name": "../memory.json", "bytes": 1, "sha256": "0" * 64}
    rewrite(saved, lambda document: document["files"].update(pictures=[record]))
    with pytest.raises(FormatError, match="picture"):
        tasm.load(saved)


def test_a_file_that_does_not_fit_the_manifest_is_refused(saved):
    rewrite(saved, lambda document: document.update(core_tokens=[11, 12], bank_tokens=[3, 20]))
    with pytest.raises(DamageError, match=r"layers\.0\.keys.*core_tokens\[0\]"):
        tasm.load(saved)
    rewrite(saved, lambda document: document.update(core_tokens=[12, 12]))
    with pytest.raises(DamageError, match=r"layers\.0\.keys.*bank_tokens\[0\]"):
        tasm.load(saved)


def with_bytes(folder: Path, kind: str, data: bytes) -> None:
    """Replace a tensor file by another and let the manifest agree with its bytes."""
    digests = [data[at : at + blocks.BLOCK] for at in range(0, len(data), blocks.BLOCK)]
    digest = hashlib.sha256(data).hexdigest()
    record = blocks.FileRecord(
        f"{kind}-{digest[:16]}.safetensors",
        len(data),
        digest,
        b"".join(hashlib.sha256(block).digest() for block in digests),
    )
    (folder / record.name).write_bytes(data)
    rewrite(folder, lambda document: document["files"].update({kind: record.to_json()}))


def with_header(folder: Path, header: bytes) -> None:
    with_bytes(folder, "core", len(header).to_bytes(8, "little") + header + bytes(64))


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [99], "data_offsets": [0, 396]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [8, 4]}}',
    ],
)
def test_impossible_headers_are_damage(saved, header):
    with_header(saved, header)
    with pytest.raises(DamageError, match="header"):
        tasm.load(saved)


def test_a_memory_of_another_model_is_refused(saved):
    memory = tasm.load(saved)
    memory.check(identity())
    with pytest.raises(MismatchError, match="weights") as caught:
        memory.check(identity("f" * 64))
    assert caught.value.exit_code == 2


def test_another_environment_is_warned_of_and_an_unknown_one_is_not(tmp_path):
    built = {"quantisation": None, "image_processor": "OnePilProcessor"}
    here = {"quantisation": "bitsandbytes", "image_processor": "OneFastProcessor"}
    task_memory().replaced(identity=replace(identity(), environment=built)).save(tmp_path / "m")
    memory = tasm.load(tmp_path / "m")
    assert memory.identity.environment == built
    assert memory.public()["model"]["environment"] == built
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memory.check(replace(identity(), environment=built))
        memory.check(identity())  # one that does not say
    with pytest.warns(UserWarning) as said:
        memory.check(replace(identity(), environment=here))
    assert [str(one.message).partition(" here")[0] for one in said] == [
        "The memory was built with quantisation none, the model runs with quantisation "
        "bitsandbytes",
        "The memory was built with the image processor OnePilProcessor, the model runs with the "
        "image processor OneFastProcessor",
    ]


def test_a_memory_that_was_written_before_environments_opens(saved):
    rewrite(saved, lambda document: document["model"].pop("environment"))
    memory = tasm.load(saved)
    assert memory.identity.environment == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memory.check(replace(identity(), environment={"quantisation": "gptq"}))
    rewrite(saved, lambda document: document["model"].update(environment={"quantisation": 4}))
    with pytest.raises(FormatError, match="environment"):
        tasm.load(saved)


def test_recorded_paths_are_hints_relative_to_the_memory(tmp_path):
    (tmp_path / "model").mkdir()
    memory = task_memory().replaced(model_name=str(tmp_path / "model"))
    memory.save(tmp_path / "here" / "m.tasm")
    document = json.loads((tmp_path / "here" / "m.tasm" / "memory.json").read_bytes())
    assert document["model"]["path"] == "../../model"
    (tmp_path / "here").rename(tmp_path / "there")
    assert tasm.load(tmp_path / "there" / "m.tasm").model_name == str(tmp_path / "model")
    picture = tasm.load(tmp_path / "there" / "m.tasm").demonstrations[0].pictures[0]
    assert picture.path == "/data/pictures/ä.png"


# ---------------------------------------------------------------------- writing


def listing(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_a_folder_that_exists_is_not_overwritten_unless_asked(saved, tmp_path):
    before = listing(saved)
    with pytest.raises(InputError, match=r"exists\..*overwrite=True") as caught:
        task_memory(seed=1).save(saved)
    assert caught.value.exit_code == 2
    assert listing(saved) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="not a task memory"):
        task_memory().save(tmp_path / "other", overwrite=True)
    (tmp_path / "file.tasm").write_text("precious")
    with pytest.raises(InputError, match="not a folder"):
        task_memory().save(tmp_path / "file.tasm", overwrite=True)
    assert (tmp_path / "file.tasm").read_text() == "precious"


def test_a_change_replaces_the_manifest_and_deletes_what_it_no_longer_names(saved):
    reader = tasm.load(saved)
    (saved / "notes.txt").write_text("mine")
    (saved / "core-0000.partial").write_text("left by a writer that was killed")
    after = task_memory(seed=1, bank=None)
    after.save(saved, overwrite=True)
    assert_same(tasm.load(saved), after)
    assert len(list(saved.glob("core-*"))) == 1
    assert not list(saved.glob("bank-*"))
    assert (saved / "notes.txt").read_text() == "mine"
    assert_same(reader, task_memory())  # the files it has mapped live on


def test_a_memory_may_be_saved_over_itself(saved):
    memory = tasm.load(saved)
    memory.save(saved, overwrite=True)
    assert_same(tasm.load(saved), task_memory())


def test_thumbnails_are_kept_and_found_again(tmp_path):
    data = b"\x89PNG" + bytes(50)
    task_memory().save(tmp_path / "a.tasm", pictures={"e" * 64: data})
    memory = tasm.load(tmp_path / "a.tasm")
    assert memory.thumbnails() == {"e" * 64: data}
    assert memory.demonstrations[0].pictures[0].thumbnail == f"{'e' * 64}.png"
    memory.save(tmp_path / "b.tasm")
    assert tasm.load(tmp_path / "b.tasm").thumbnails() == {"e" * 64: data}
    memory.save(tmp_path / "b.tasm", overwrite=True, pictures={})
    assert not list((tmp_path / "b.tasm" / "pictures").iterdir())
    with pytest.raises(InputError, match="neither JPEG nor PNG"):
        task_memory().save(tmp_path / "c.tasm", pictures={"e" * 64: b"GIF89a"})
    assert not (tmp_path / "c.tasm").exists()


@pytest.mark.parametrize("when", range(1, 7))
@pytest.mark.parametrize("first", [True, False], ids=["new", "changed"])
def test_a_full_disk_leaves_everything_as_it_was(tmp_path, monkeypatch, when, first):
    """Every sync in turn fails: of the thumbnail, each tensor file, the manifest, the folders."""
    folder = tmp_path / "m.tasm"
    if not first:
        task_memory().save(folder)
    before = listing(tmp_path)
    calls = 0
    real = os.fsync

    def fail(handle):
        nonlocal calls
        calls += 1
        if calls == when:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WorkError, match="No space left") as caught:
        task_memory(seed=1).save(
            folder, overwrite=True, pictures={"e" * 64: b"\xff\xd8\xff" + bytes(9)}
        )
    assert caught.value.exit_code == 1
    assert calls == when
    assert listing(tmp_path) == before
    assert first != folder.exists()


def test_a_disk_that_fails_after_the_change_leaves_the_new_memory(saved, monkeypatch):
    real, syncs = store.sync_folder, []

    def fail(folder):
        syncs.append(folder)
        if len(syncs) == 2:  # the first is before the manifest is replaced
            raise OSError(errno.EIO, "Input/output error")
        real(folder)

    monkeypatch.setattr(store, "sync_folder", fail)
    with pytest.raises(WorkError, match="Input/output"):
        task_memory(seed=1).save(saved, overwrite=True)
    assert_same(tasm.load(saved), task_memory(seed=1))


def _save_with_little_room(folder: Path, queue) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    try:
        task_memory().save(folder)
    except WorkError as error:
        queue.put(str(error))
    else:
        queue.put("saved")


def test_a_file_that_may_not_grow_leaves_nothing(tmp_path):
    """The system's own limit instead of a replaced function."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_save_with_little_room, args=(tmp_path / "m.tasm", queue))
    process.start()
    message = queue.get(timeout=60)
    process.join()
    assert "could not be written" in message
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_commit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        task_memory().save(tmp_path / "m.tasm")
    assert list(tmp_path.iterdir()) == []


def test_two_writers_do_not_meet(saved):
    before = listing(saved)
    with store.writer_lock(saved), pytest.raises(WorkError, match="Another process"):
        task_memory(seed=1).save(saved, overwrite=True)
    assert listing(saved) == before
    task_memory(seed=1).save(saved, overwrite=True)
    assert_same(tasm.load(saved), task_memory(seed=1))


def test_a_manifest_replaced_while_opening_is_read_again(saved, monkeypatch):
    """The writer came between reading the manifest and mapping the files."""
    old = store.read_manifest(saved)
    task_memory(seed=1).save(saved, overwrite=True)
    answers = iter([old, store.read_manifest(saved)])
    monkeypatch.setattr(store, "read_manifest", lambda folder: next(answers))
    assert_same(tasm.load(saved), task_memory(seed=1))


def test_a_dtype_that_the_file_has_not_is_refused(saved):
    rewrite(saved, lambda document: document.update(dtype="float16"))
    with pytest.raises(DamageError, match="dtype of the manifest say F16"):
        tasm.load(saved)


def test_what_may_be_shown_is_json_with_the_sizes_of_layers(saved):
    memory = tasm.load(saved)
    document = json.loads(json.dumps(memory.public()))
    assert document["core_bytes"] == memory.core_bytes
    assert document["file_bytes"] == sum(p.stat().st_size for p in saved.iterdir())
    assert [layer["core_tokens"] for layer in document["layers"]] == [12, 12]
    assert [layer["bank_tokens"] for layer in document["layers"]] == [20, 20]
    assert document["demonstrations"][0]["answer"] == "wren"


def test_a_gate_of_one_answer_does_not_change_the_memory():
    memory = task_memory(gate=GateSettings(kind="js", epsilon=0.5))
    assert memory.cache(gate="always", epsilon=0.1).extra.settings.kind == "always"
    assert memory.gate == GateSettings(kind="js", epsilon=0.5)
    with pytest.raises(InputError, match="Did you mean 'never'"):
        memory.cache(gate="nevr")
