"""The reader that docs/format.md prints knows nothing of tasm, and gives the same tensors."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import tasm
from tests.memory.memories import packed_memory, task_memory

PAGE = Path(__file__).parents[2] / "docs" / "format.md"
KEPT = sorted(
    path
    for path in [
        *(Path(__file__).parent / "old").iterdir(),
        *(Path(__file__).parent / "kept").iterdir(),
    ]
    if path.suffix == ".tasm" and "bfloat16" not in path.name  # which NumPy has not
)


@pytest.fixture(scope="module")
def read_memory():
    (code,) = re.findall(r"```python file=read_memory.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert "tasm" not in code and len(code.splitlines()) < 80
    names: dict = {}
    exec(code, names)
    return names["read_memory"]


def assert_read_alike(read_memory, folder: Path) -> None:
    manifest, layers = read_memory(folder)
    memory = tasm.load(folder)
    exact = memory.packing is None
    assert manifest["digest"] == memory.digest
    ours = {"core": list(memory.core)}
    if memory.bank is not None:
        ours["bank"] = [None if one is None else one.held() for one in memory.bank.layers]
    assert layers.keys() == ours.keys()
    compared = 0
    for kind, held in ours.items():
        for mine, theirs in zip(layers[kind], held, strict=True):
            assert (mine is None) == (theirs is None)
            for head, count in enumerate(theirs.counts if theirs is not None else ()):
                one = mine[head]
                index = theirs.index[head, :count]
                assert np.array_equal(one["index"], index.numpy())
                assert np.array_equal(one["positions"], memory.tokens.positions[:, index].numpy())
                bias = None if theirs.bias is None else theirs.bias[head, :count]
                pairs = {"keys": theirs.keys[head, :count], "values": theirs.values[head, :count]}
                pairs["bias"] = torch.zeros(count) if bias is None else bias
                for part, right in pairs.items():
                    found = one.get(part, np.zeros(count))
                    assert found.shape == tuple(right.shape)
                    if exact:
                        assert np.array_equal(found, right.numpy()), part
                    else:
                        assert np.allclose(found, right.float().numpy(), rtol=1e-5, atol=1e-4), part
                compared += count
    assert compared


@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("core", [(12, 12), (5, 9)], ids=["even", "ragged"])
@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "int4", "no bank"])
def test_the_reader_of_the_page_reads_every_kind(read_memory, kind, core, bias, tmp_path):
    if kind.startswith("int"):
        memory = packed_memory(kind, core=core, bank=core, bias=bias)
    else:
        dtype = torch.float16 if kind == "float16" else torch.float32
        bank = None if kind == "no bank" else core
        memory = task_memory(core=core, bank=bank, bias=bias, dtype=dtype)
    memory.save(tmp_path / "m.tasm")
    assert_read_alike(read_memory, tmp_path / "m.tasm")
    manifest = tmp_path / "m.tasm" / "memory.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"wren", b"crow", 1))
    with pytest.raises(ValueError, match="damaged"):
        read_memory(tmp_path / "m.tasm")


@pytest.mark.parametrize("folder", KEPT, ids=lambda path: path.name)
def test_the_reader_of_the_page_reads_what_was_kept(read_memory, folder):
    assert_read_alike(read_memory, folder)
