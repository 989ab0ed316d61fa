"""What makes two models the same, and which part is said to differ."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPTQConfig

from tasm.backbone import Identity, load_backbone, wrap_backbone
from tasm.backbone.checkpoint.fingerprints import file_sha256
from tasm.backbone.checkpoint.identity import PARTS, folder_identity
from tasm.backbone.running.in_memory import parameters_sha256
from tasm.errors import FormatError


def edit_json(path: Path, **fields: Any) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, **fields}, indent=4))


@pytest.fixture
def folder(folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder_of("qwen2_vl"), tmp_path / "copy"))


def test_a_copy_is_the_same_model(folder: Path, folder_of: Callable[[str], Path]) -> None:
    original, copy = folder_identity(folder_of("qwen2_vl")), folder_identity(folder)
    assert set(original.parts) == set(PARTS)
    assert all(len(value) == 64 for value in original.parts.values())
    assert original == copy and original.differences(copy) == []
    assert original.digest == copy.digest
    assert folder_identity(folder_of("qwen2_5_vl")).differences(copy) == [
        "weights",
        "config",
        "processor",
    ]


def test_versions_and_layout_of_json_do_not_count(folder: Path) -> None:
    before = folder_identity(folder)
    edit_json(folder / "config.json", transformers_version="9.9.9", _name_or_path="/elsewhere")
    (folder / "README.md").write_text("hello")
    assert folder_identity(folder) == before


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("config", lambda f: edit_json(f / "config.json", tie_word_embeddings=True)),
        ("processor", lambda f: edit_json(f / "preprocessor_config.json", image_mean=[0, 0, 0])),
        ("tokenizer", lambda f: edit_json(f / "tokenizer_config.json", model_max_length=7)),
        ("chat template", lambda f: edit_json(f / "chat_template.json", chat_template="x")),
    ],
)
def test_the_part_that_changed_is_named(folder: Path, part: str, change: Any) -> None:
    before = folder_identity(folder)
    change(folder)
    after = folder_identity(folder)
    assert before.differences(after) == [part] == after.differences(before)
    assert before.digest != after.digest


def test_one_flipped_byte_of_the_weights_is_another_model(folder: Path) -> None:
    before = folder_identity(folder)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    assert before.differences(folder_identity(folder)) == ["weights"]


def test_identity_survives_json_and_refuses_other_things() -> None:
    identity = Identity({"weights": "a" * 64, "config": "b" * 64})
    assert Identity.from_json(json.loads(json.dumps(identity.to_json()))) == identity
    for wrong in (None, [], {"weights": 3}):
        with pytest.raises(FormatError, match="model identity"):
            Identity.from_json(wrong)


def test_fingerprints_are_remembered_while_the_file_is_unchanged(
    tmp_path: Path, own_cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"one")
    first = file_sha256(file)
    remembered = json.loads((own_cache_folder / "tasm" / "fingerprints.json").read_text())
    assert list(remembered.values()) == [first]
    file.write_bytes(b"three")
    assert file_sha256(file) != first
    assert len(json.loads((own_cache_folder / "tasm" / "fingerprints.json").read_text())) == 1


def test_a_cache_that_cannot_be_written_or_read_is_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"one")
    expected = file_sha256(file)
    in_the_way = tmp_path / "in-the-way"
    in_the_way.write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_the_way))
    assert file_sha256(file) == expected
    damaged = tmp_path / "damaged"
    (damaged / "tasm").mkdir(parents=True)
    (damaged / "tasm" / "fingerprints.json").write_text("{ not json")
    monkeypatch.setenv("XDG_CACHE_HOME", str(damaged))
    assert file_sha256(file) == expected


def test_a_model_in_hand_is_known_by_its_parameters(folder_of: Callable[[str], Path]) -> None:
    loaded = load_backbone(folder_of("llama"))
    first = wrap_backbone(loaded.hf, loaded.processor).identity
    assert wrap_backbone(loaded.hf, loaded.processor).identity == first
    before = parameters_sha256(loaded.hf)
    with torch.no_grad():
        next(iter(loaded.hf.parameters()))[0, 0] += 1
    assert parameters_sha256(loaded.hf) != before
    assert wrap_backbone(loaded.hf, loaded.processor).identity.differences(first) == ["weights"]
    loaded.processor.chat_template = loaded.processor.chat_template + " "
    both = wrap_backbone(loaded.hf, loaded.processor).identity.differences(first)
    assert both == ["weights", "chat template"]


def test_the_environment_is_recorded_beside_the_identity(
    folder_of: Callable[[str], Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_backbone(folder)
    name = type(loaded.processor.image_processor).__name__
    runs_in = {"dtype": "float32", "adapters": None}
    first = {"quantisation": None, "image_processor": name, **runs_in}
    assert loaded.identity.environment == first
    assert "environment" not in loaded.identity.to_json()
    text = load_backbone(folder_of("llama"))
    before = wrap_backbone(text.hf, text.processor).identity
    assert before.environment == {"quantisation": None, "image_processor": None, **runs_in}
    for settings in ({"quant_method": "gptq", "bits": 4}, GPTQConfig(bits=4)):
        monkeypatch.setattr(text.hf.config, "quantization_config", settings, raising=False)
        after = wrap_backbone(text.hf, text.processor).identity
        assert after.environment["quantisation"] == "gptq"
        assert after == before  # the same weights and settings: another environment only


def test_name_and_commit_of_a_hub_model_do_not_stand_for_its_weights(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_backbone(folder_of("llama"))
    monkeypatch.setattr(loaded.hf.config, "_name_or_path", "owner/name", raising=False)
    monkeypatch.setattr(loaded.hf.config, "_commit_hash", "c0ffee", raising=False)
    one = wrap_backbone(loaded.hf, loaded.processor).identity
    monkeypatch.setattr(loaded.hf.config, "_commit_hash", "decade", raising=False)
    assert wrap_backbone(loaded.hf, loaded.processor).identity.differences(one) == []
    with torch.no_grad():
        next(iter(loaded.hf.parameters()))[0, 0] += 1
    assert wrap_backbone(loaded.hf, loaded.processor).identity.differences(one) == ["weights"]
