"""Memories in other processes: what is pickled is the path and the digest, nothing else."""

import copy
import multiprocessing
import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import tasm
from tasm.errors import InputError
from tests.memory.memories import Searches, brought, task_memory


@pytest.fixture
def saved(tmp_path) -> Path:
    task_memory().save(tmp_path / "birds.tasm")
    return tmp_path / "birds.tasm"


def test_a_memory_on_disk_pickles_as_its_path_and_digest(saved, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    memory = tasm.load("birds.tasm")
    brought(memory)  # used before, with whatever that keeps
    data = pickle.dumps(memory)
    assert len(data) < 1000 and memory.digest.encode() in data
    monkeypatch.chdir("/")
    again = pickle.loads(data)
    assert torch.equal(brought(again), brought(memory))
    assert again.digest == memory.digest


def test_another_memory_at_that_path_is_refused(saved):
    data = pickle.dumps(tasm.load(saved))
    task_memory(seed=1).save(saved, overwrite=True)
    with pytest.raises(InputError, match="another memory lies there now"):
        pickle.loads(data)
    saved.rename(saved.with_name("elsewhere.tasm"))
    with pytest.raises(InputError, match=r"birds\.tasm does not exist.*tasm\.load"):
        pickle.loads(data)


def test_a_memory_that_was_never_saved_says_to_save_it():
    with pytest.raises(InputError, match=r"memory\.save"):
        pickle.dumps(task_memory())


def test_copies_are_the_memory_itself(saved):
    for memory in (task_memory(), tasm.load(saved)):
        assert copy.copy(memory) is copy.deepcopy(memory) is memory


def test_a_cache_says_how_to_pass_it_on(saved):
    cache = tasm.load(saved).cache(gate="never")
    with pytest.raises(InputError, match=r"memory\.cache\(\) there"):
        pickle.dumps(cache)
    twin = copy.deepcopy(cache)
    assert torch.equal(twin.segments[0][0].keys, cache.segments[0][0].keys)


def test_spawned_workers_of_a_data_loader_carry_a_memory(saved):
    memory = tasm.load(saved)
    context = multiprocessing.get_context("spawn")
    loader = DataLoader(Searches(memory), num_workers=2, multiprocessing_context=context)
    assert torch.equal(torch.cat(list(loader)), brought(memory)[0])
