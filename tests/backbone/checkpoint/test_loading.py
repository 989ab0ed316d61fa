"""Folders that cannot be used: each refused in a sentence that says what was looked for."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tasm.backbone import load_backbone, wrap_backbone
from tasm.backbone.loading import reference_folder
from tasm.errors import InputError, ModelError
from tests.backbone.conftest import demonstrations_for


@pytest.fixture
def copy_of(folder_of: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    def copy(family: str) -> Path:
        return Path(shutil.copytree(folder_of(family), tmp_path / family))

    return copy


def remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def test_names_that_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(ModelError, match="no model folder"):
        load_backbone(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"Did you mean 'reference'"):
        load_backbone("refrence")
    with pytest.raises(ModelError, match="is a file"):
        load_backbone(tmp_path / "file.txt")
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_backbone(tmp_path)
    with pytest.raises(ModelError, match="cannot be fetched"):
        load_backbone("owner/some-model-that-is-nowhere")
    with pytest.raises(ModelError, match=r"Did you mean 'qwen2_vl-0.15b'"):
        load_backbone("random:qwen2_vl-0.16b")


def test_settings_that_are_none(folder_of: Callable[[str], Path]) -> None:
    folder = folder_of("llama")
    with pytest.raises(InputError, match=r"Unknown dtype 'float23'.*'float32'"):
        load_backbone(folder, dtype="float23")
    for device in ("no-such-device", "cuda:77"):
        with pytest.raises(InputError, match="cannot be used here"):
            load_backbone(folder, device=device)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{ not json", "not valid JSON"),
        ("[]", "model_type"),
        ('{"hidden_size": 3}', "model_type"),
        ('{"model_type": "never_heard_of"}', "never_heard_of"),
        ('{"model_type": "vit"}', "neither an image-text model nor a text decoder"),
        ('{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}', "code of its own"),
    ],
)
def test_configurations_that_cannot_be_used(
    copy_of: Callable[[str], Path], content: str, reason: str
) -> None:
    folder = copy_of("llama")
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match=reason):
        load_backbone(folder)


def test_parts_that_are_missing(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("qwen2_vl")
    remove(folder, "chat_template.json")
    with pytest.raises(ModelError, match=r"no chat template: looked for chat_template\.jinja"):
        load_backbone(folder)
    remove(folder, "preprocessor_config.json")
    with pytest.raises(
        ModelError, match=r"no image processor: looked for preprocessor_config\.json"
    ):
        load_backbone(folder)
    text = copy_of("llama")
    remove(text, "tokenizer.json", "tokenizer_config.json")
    with pytest.raises(ModelError, match=r"no tokenizer: looked for tokenizer\.json"):
        load_backbone(text)


def test_weights_that_cannot_be_used(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("llama")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"weights of .* cannot be loaded"):
        load_backbone(folder)
    remove(folder, "model.safetensors")
    with pytest.raises(ModelError, match="has no weights"):
        load_backbone(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*can run code.*save_pretrained"):
        load_backbone(folder)


def test_weights_that_do_not_fit_the_configuration(copy_of: Callable[[str], Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy_of("llama")
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.self_attn.q_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 tensors are missing.*q_proj"):
        load_backbone(folder)


def test_a_processor_nobody_knows_is_named(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("internvl")
    settings = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(
        json.dumps({**settings, "processor_class": "Mine"})
    )
    with pytest.raises(ModelError, match="'Mine'"):
        load_backbone(folder)


def test_dtype_and_device_are_as_asked(folder_of: Callable[[str], Path]) -> None:
    backbone = load_backbone(folder_of("llava"), dtype="bfloat16", device="cpu")
    assert backbone.dtype == torch.bfloat16
    assert backbone.device == torch.device("cpu")
    transcript = backbone.transcript(demonstrations_for("llava"))
    inputs = backbone.full_inputs(
        demonstrations_for("llava")[:1], _query(), layout=transcript.layout
    )
    assert inputs["pixel_values"].dtype == torch.bfloat16
    assert load_backbone(folder_of("llava")).dtype == torch.float32


def _query() -> Any:
    from tasm.demonstrations import make_query

    return make_query("Which?")


def test_a_model_in_hand_works_like_its_folder(
    folder_of: Callable[[str], Path], backbone_of: Any
) -> None:
    loaded = load_backbone(folder_of("qwen2_vl"))
    wrapped = wrap_backbone(loaded.hf, loaded.processor)
    demonstrations = demonstrations_for("qwen2_vl")
    mine, theirs = wrapped.transcript(demonstrations), loaded.transcript(demonstrations)
    assert torch.equal(mine.input_ids, theirs.input_ids)
    loaded.processor.chat_template = None
    loaded.tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        wrap_backbone(loaded.hf, loaded.processor)


def test_the_newer_layout_of_a_processor_loads_too(copy_of: Callable[[str], Path]) -> None:
    """Newer folders keep the image processor inside processor_config.json."""
    folder = copy_of("qwen2_vl")
    image = json.loads((folder / "preprocessor_config.json").read_text())
    remove(folder, "preprocessor_config.json")
    image["image_mean"] = [0.25, 0.5, 0.75]
    whole = {"processor_class": image.pop("processor_class"), "image_processor": image}
    (folder / "processor_config.json").write_text(json.dumps(whole))
    loaded = load_backbone(folder).processor.image_processor
    assert list(loaded.image_mean) == image["image_mean"]


def test_the_reference_folder_is_inside_the_package() -> None:
    try:
        folder = reference_folder()
    except ModelError as error:
        assert "Reinstall" in str(error)
    else:
        assert folder.name == "model" and (folder / "config.json").is_file()
