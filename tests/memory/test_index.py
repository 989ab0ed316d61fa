"""A bank's index: against a plain scan, in a file of its own, and without reading a whole bank."""

import ctypes
import json
from pathlib import Path

import pytest
import torch

import tasm
from tasm.errors import DamageError, FormatError
from tasm.memory import Bank, LayerTokens
from tasm.memory.disk.blocks import write_tensors
from tasm.memory.disk.layers import MappedLayer, layer_tensors
from tasm.memory.disk.mapped_file import MappedFile
from tasm.memory.retrieval.index import clusters, layer
from tasm.memory.retrieval.index import head as head_module
from tasm.memory.retrieval.index.head import HeadIndex
from tasm.memory.retrieval.index.layer import LayerIndex
from tests.memory.memories import layer_tokens, task_memory

HEAD_DIM = 8


def crowds(tokens: int, seed: int = 0) -> torch.Tensor:
    """Keys in crowds of about 32, as a transcript's are."""
    generator = torch.Generator().manual_seed(seed)
    centres = 4 * torch.randn(tokens // 32, HEAD_DIM, generator=generator)
    crowd = torch.randint(len(centres), (tokens,), generator=generator)
    return centres[crowd] + torch.randn(tokens, HEAD_DIM, generator=generator)


@pytest.fixture
def for_small_banks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index for banks of 16 tokens."""
    monkeypatch.setattr(layer, "LEAST_TOKENS", 16)


def test_order_and_levels_are_those_of_the_keys():
    """A permutation; every leaf's mean, spread and place worked out leaf by leaf."""
    keys = crowds(1500)
    order, index = HeadIndex.of(keys)
    assert sorted(order.tolist()) == list(range(1500))
    keys, start = keys[order], 0
    for centre, spread, size in zip(
        index.leaves.centres, index.leaves.spreads, index.leaves.sizes.tolist(), strict=True
    ):
        leaf = keys[start : start + size]
        torch.testing.assert_close(centre, leaf.mean(0))
        torch.testing.assert_close(spread, leaf.var(0, correction=0).mean().sqrt())
        start += size
    assert start == 1500
    assert int(index.lists.sizes.sum()) == len(index.leaves.sizes)
    starts = index.lists.starts.tolist()
    first = range(starts[3], starts[3] + int(index.lists.sizes[3]))
    assert index.lists.members(torch.tensor([3])).tolist() == list(first)


def test_equal_keys_are_cut_into_leaves_of_a_bounded_size():
    _, index = HeadIndex.of(torch.ones(1000, HEAD_DIM))
    assert index.tokens == 1000
    assert int(index.leaves.sizes.max()) <= clusters.LARGEST_LEAF


def test_few_rows_are_read_and_nearly_all_of_the_best_are_found():
    """Against sorting all products; most keys are never handed out."""
    keys = crowds(20_000)
    order, index = HeadIndex.of(keys)
    keys, handed_out = keys[order], []

    def read(rows: torch.Tensor) -> torch.Tensor:
        handed_out.append(len(rows))
        return keys[rows]

    found = 0
    for query in torch.randn(30, 2, HEAD_DIM, generator=torch.Generator().manual_seed(1)):
        best = (keys @ query.T).amax(1).argsort(descending=True)[:16]
        rows = index.best_rows(query, 16, read)
        scores = (keys[rows] @ query.T).amax(1)
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        found += len(set(best.tolist()) & set(rows.tolist()))
    assert found >= 0.95 * 30 * 16
    assert max(handed_out) <= head_module.rows_read(20_000, 16) + clusters.LARGEST_LEAF < 2100


def test_where_everything_is_read_it_is_the_exact_scan():
    """Heads of different lengths, one nearly empty; places and values, and what is missing."""
    tokens = layer_tokens(torch.Generator().manual_seed(0), (60, 3), total=80)
    query = torch.randn(3, 2, 2, HEAD_DIM, generator=torch.Generator().manual_seed(5))
    ordered, index = LayerIndex.of(tokens)
    exact = Bank([tokens]).search(0, query, 7)

    found = Bank([ordered], lambda layer: index).search(0, query, 7)
    assert torch.equal(found.missing, exact.missing)
    there = ~exact.missing.expand(3, 2, 7)
    assert torch.equal(found.index[there], exact.index[there])
    assert torch.equal(found.values[there], exact.values[there])


@pytest.mark.usefixtures("for_small_banks")
def test_a_saved_index_finds_what_the_scan_finds(tmp_path: Path):
    memory = task_memory(bank=(40, 24))
    memory.save(tmp_path / "a.tasm")
    loaded = tasm.load(tmp_path / "a.tasm")
    assert len(list((tmp_path / "a.tasm").glob("index-*.safetensors"))) == 1
    loaded.check_all()
    assert loaded.bank_bytes > memory.bank_bytes
    query = torch.randn(2, 2, 2, HEAD_DIM, generator=torch.Generator().manual_seed(3))
    for number in (0, 1):
        exact, found = memory.bank.search(number, query, 5), loaded.bank.search(number, query, 5)
        assert torch.equal(found.index, exact.index)
        assert torch.equal(found.values, exact.values)


@pytest.mark.usefixtures("for_small_banks")
def test_the_old_index_goes_with_the_old_memory(tmp_path: Path):
    place = tmp_path / "a.tasm"
    task_memory(bank=(40, 24)).save(place)
    task_memory(bank=(40, 30), seed=4).save(place, overwrite=True)
    named = json.loads((place / "memory.json").read_bytes())["files"]["index"]["name"]
    assert [path.name for path in place.glob("index-*")] == [named]
    task_memory(bank=(9, 9)).save(place, overwrite=True)
    assert not list(place.glob("index-*"))
    assert "index" not in json.loads((place / "memory.json").read_bytes())["files"]


@pytest.mark.usefixtures("for_small_banks")
def test_a_damaged_index_stops_the_search(tmp_path: Path):
    place = tmp_path / "a.tasm"
    task_memory(bank=(40, 24)).save(place)
    path = next(place.glob("index-*"))
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    query = torch.zeros(1, 2, HEAD_DIM)
    with pytest.raises(DamageError, match=r"index-.*MiB 0 differs"):
        tasm.load(place).bank.search(0, query, 5)
    with pytest.raises(DamageError, match=r"index-.*MiB 0 differs"):
        tasm.load(place).check_all()
    path.unlink()
    with pytest.raises(DamageError, match=r"index-.* is missing"):
        tasm.load(place)


@pytest.mark.usefixtures("for_small_banks")
def test_an_index_of_another_bank_is_refused(tmp_path: Path):
    """Sound hashes, but its leaves hold more tokens than the bank."""
    place, other = tmp_path / "a.tasm", tmp_path / "b.tasm"
    task_memory(bank=(40, 24)).save(place)
    task_memory(bank=(40, 20), seed=3).save(other)
    swapped = Manifested(place)
    swapped.take_index(other)
    with pytest.raises(DamageError, match="does not fit the bank"):
        tasm.load(place).bank.search(0, torch.zeros(1, 2, HEAD_DIM), 5)
    swapped.drop_bank()
    with pytest.raises(FormatError, match=r"files\.index"):
        tasm.load(place)


class Manifested:
    """A manifest changed by hand, with a digest that fits."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.document = json.loads((place / "memory.json").read_bytes())

    def take_index(self, other: Path) -> None:
        files = json.loads((other / "memory.json").read_bytes())["files"]
        name = files["index"]["name"]
        (self.place / name).write_bytes((other / name).read_bytes())
        self.document["files"]["index"] = files["index"]
        self._write()

    def drop_bank(self) -> None:
        self.document["files"]["bank"] = self.document["bank_tokens"] = None
        self._write()

    def _write(self) -> None:
        import hashlib

        self.document["digest"] = "0" * 64
        text = json.dumps(self.document, indent=1).encode() + b"\n"
        digest = hashlib.sha256(text).hexdigest().encode()
        (self.place / "memory.json").write_bytes(text.replace(b"0" * 64, digest, 1))


def test_packed_banks_and_small_ones_have_none(tmp_path: Path):
    task_memory(bank=(40, 24)).save(tmp_path / "a.tasm")
    assert not list((tmp_path / "a.tasm").glob("index-*"))


def anonymous_bytes() -> int:
    """Memory of this process that no file stands behind; what was freed is given back first."""
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_a_mapped_bank_is_scanned_without_holding_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """96 MB of keys, read through a map: less than a quarter of that is ever held."""
    keys = torch.randn(1, 300_000, 80, generator=torch.Generator().manual_seed(0))
    tokens = LayerTokens(keys, keys[:, :, :1], torch.arange(300_000, dtype=torch.int32)[None])
    record = write_tensors(tmp_path / "bank", layer_tensors(0, tokens))
    mapped = MappedLayer(MappedFile(tmp_path / "bank", record), 0, (300_000,), 300_000)
    monkeypatch.setattr("tasm.memory.retrieval.bank._SCAN_ELEMENTS", 1 << 20)
    query = torch.randn(1, 1, 80, generator=torch.Generator().manual_seed(1))
    best = (keys[0] @ query[0, 0]).argsort(descending=True)[:20]
    held: list[int] = []
    block = MappedLayer.block

    def watched(self: MappedLayer, start: int, stop: int) -> torch.Tensor:
        found = block(self, start, stop)
        held.append(anonymous_bytes())
        return found

    monkeypatch.setattr(MappedLayer, "block", watched)
    before = anonymous_bytes()
    found = Bank([mapped]).search(0, query, 20)
    assert torch.equal(found.index[0, 0].long(), best)
    assert len(held) > 20
    assert max(held) - before < 24_000_000
