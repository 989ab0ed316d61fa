"""Where a bank is searched: decided alike for a memory just built and one opened from disk."""

import pytest
import torch

import tasm
from tasm.errors import InputError
from tasm.memory import GateReference, placement
from tests.memory.memories import task_memory


@pytest.mark.parametrize("free", [0, "too little", "enough"])
def test_auto_is_the_device_where_a_quarter_of_it_holds_the_bank(free, tmp_path, monkeypatch):
    """A CPU stands for the accelerator: `free_bytes` is all that is asked of one."""
    held = task_memory()
    held.save(tmp_path / "m.tasm")
    room = {"too little": 4 * held.bank_bytes - 1, "enough": 4 * held.bank_bytes}.get(free, 0)
    monkeypatch.setattr(placement, "free_bytes", lambda device: room)
    for memory in (held, tasm.load(tmp_path / "m.tasm")):
        banks = [memory.cache(gate="always").extra.bank for _ in range(2)]
        assert banks[0] is banks[1]
        copied = memory.cache(gate="always", bank_on="device").extra.bank
        assert (banks[0] is copied) == (free == "enough")
        assert (banks[0] is memory.bank) == (free != "enough")
        monkeypatch.setattr(placement, "free_bytes", lambda device: 0)  # taken: decided once
        assert memory.cache(gate="always").extra.bank is banks[0]
        monkeypatch.setattr(placement, "free_bytes", lambda device: room)


def test_a_cpu_has_no_room_of_its_own_beside_the_host():
    memory = task_memory()
    assert placement.free_bytes(torch.device("cpu")) == 0
    assert memory.cache(gate="always").extra.bank is memory.bank


def test_a_place_that_there_is_not():
    with pytest.raises(InputError, match="bank_on is 'gpu'; expected one of auto, device, host"):
        task_memory().cache(bank_on="gpu")


def test_thresholds_that_no_file_could_hold():
    assert GateReference((), (float("inf"), None), (0.5, None)).thresholds == (1e6, None)
    nan = float("nan")
    for given in (((nan,), None), ((1.0,), (nan,))):
        with pytest.raises(InputError, match="threshold of layer 0 is nan"):
            GateReference((), *given)


def test_an_infinite_threshold_survives_the_file(tmp_path):
    memory = task_memory()
    layers = memory.reference.layers
    shut = GateReference(layers, (float("inf"),) * 2)
    memory.replaced(reference=shut).save(tmp_path / "m.tasm")
    opened = tasm.load(tmp_path / "m.tasm")
    assert opened.reference.thresholds == (1e6, 1e6)
    assert not opened.cache().extra.reference.threshold(0, True) < 1.0
