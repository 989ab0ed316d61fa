"""A model that was loaded by name travels to other processes as that name."""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

import tasm
from tasm.backbone import Backbone
from tasm.errors import InputError, MismatchError
from tests.tiny_folders import tiny_folder


def ask(model: tasm.Model, memory: str) -> tuple[int, ...]:
    """What a worker does."""
    torch.set_num_threads(1)
    return model.ask(tasm.load(memory), question="Which?", max_new_tokens=3).token_ids


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder("llama", tmp_path_factory.mktemp("processes") / "llama")


@pytest.fixture
def memory(folder: Path, tmp_path: Path) -> str:
    model = tasm.load_model(str(folder))
    rows = [{"question": "What is one?", "answer": "two"}, {"question": "And?", "answer": "four"}]
    tasm.build(model, rows, recipe="full").save(tmp_path / "m.tasm")
    return str(tmp_path / "m.tasm")


def test_a_spawned_worker_answers_the_same(folder: Path, memory: str) -> None:
    model = tasm.load_model(str(folder))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(ask, model, memory).result(timeout=300) == ask(model, memory)


def test_a_model_pickles_as_its_place(
    folder: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    model = tasm.load_model(folder.name, dtype="bfloat16")
    ask(model, memory)
    written = pickle.dumps(model)
    assert len(written) < 4096
    monkeypatch.chdir("/")
    again = pickle.loads(written)
    assert again.backbone.dtype == torch.bfloat16
    assert again.backbone.identity == model.backbone.identity


def test_another_model_in_the_same_place_is_refused(tmp_path: Path) -> None:
    folder = tiny_folder("llama", tmp_path / "llama")
    written = pickle.dumps(tasm.load_model(str(folder)))
    tiny_folder("llama", folder, seed=5)
    with pytest.raises(MismatchError, match="another one here than where it was pickled: weights"):
        pickle.loads(written)


def test_what_has_no_place_says_how_to_pass_it_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(backbone: Backbone) -> None:
        raise AssertionError("its weights were read to no use")

    model = tasm.load_model(str(folder))
    with monkeypatch.context() as patch:
        for name in ("identity", "is_changed"):
            patch.setattr(Backbone, name, property(read))
        with pytest.raises(InputError, match="was wrapped, so it cannot be pickled"):
            pickle.dumps(tasm.wrap(model.hf, model.processor))
    with torch.no_grad():
        next(model.hf.parameters())[0] += 1
    with pytest.raises(InputError, match=r"was changed after loading.*save_pretrained"):
        pickle.dumps(model)
