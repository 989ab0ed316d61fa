"""The table of families, the limits, the random models and the image tensors."""

import subprocess
import sys

import pytest
import torch

from tasm.backbone.checkpoint.families import FAMILIES, family_of
from tasm.backbone.checkpoint.random_models import RANDOM_MODELS, RandomModel, random_model
from tasm.backbone.limits import check_positions
from tasm.backbone.loading import load_backbone
from tasm.backbone.prompt.images import NO_IMAGES, ImageInputs, PackedTensor, batched, concatenate
from tasm.errors import InputError
from tests.backbone.conftest import picture
from tests.tiny_folders import IMAGE_FAMILIES, TEXT_FAMILIES


def test_the_table_lists_what_the_tests_check() -> None:
    assert set(FAMILIES) == {*IMAGE_FAMILIES, *TEXT_FAMILIES}
    kinds = {name: family.kind for name, family in FAMILIES.items()}
    assert {name for name, kind in kinds.items() if kind == "text"} == set(TEXT_FAMILIES)
    assert family_of("unheard_of", has_images=True).kind == "image-text"


def test_the_table_needs_neither_torch_nor_transformers() -> None:
    program = (
        "import sys, tasm.backbone.checkpoint.families, tasm.backbone.checkpoint.random_models;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_too_many_positions_are_refused_with_the_figures() -> None:
    check_positions(next_position=900, query_positions=90, new_tokens=10, max_positions=1000)
    check_positions(next_position=10**9, query_positions=1, new_tokens=1, max_positions=None)
    with pytest.raises(InputError, match=r"1,000 positions.*needs 1,001: 900 .* 91 .* 10 "):
        check_positions(next_position=900, query_positions=91, new_tokens=10, max_positions=1000)


def test_the_named_random_model_has_the_promised_size() -> None:
    geometry = RANDOM_MODELS["qwen2_vl-0.15b"]
    with torch.device("meta"):
        hf, _ = random_model("qwen2_vl-0.15b")
    assert 140e6 < sum(p.numel() for p in hf.parameters()) < 160e6
    assert geometry.kv_heads < geometry.query_heads


def test_a_random_model_runs_and_is_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasm.backbone import MemoryCache
    from tasm.demonstrations import read_demonstrations

    small = RandomModel(64, 96, 2, 4, 2, 512, 32, 1, 2, 224)
    monkeypatch.setitem(RANDOM_MODELS, "small", small)
    backbone, again = load_backbone("random:small"), load_backbone("random:small")
    assert backbone.identity == again.identity
    rows = [
        {"image": picture(side, side), "question": "Which?", "answer": "wren"}
        for side in (64, 100, 224, 300)
    ]
    transcript = backbone.transcript(read_demonstrations(rows))
    for image in range(len(rows)):
        places = transcript.place[transcript.place[:, 0] == image, 1:]
        assert places.shape[0] == 64
        assert places.amax(0).tolist() == [0, 7, 7]
    cache = MemoryCache.empty(backbone.hf.config)
    backbone.encode(transcript, cache)
    cache.commit()
    assert cache.logical_length == len(transcript)


def packed(images: int, dimension: int = 0) -> ImageInputs:
    entries = tuple(range(1, images + 1))
    values = torch.arange(sum(entries) * 2.0).reshape(-1, 2)
    values = values if dimension == 0 else values[None]
    return ImageInputs(images, {"pixel_values": PackedTensor(values, dimension, entries)})


def test_image_tensors_come_apart_and_together() -> None:
    for dimension in (0, 1):
        whole = packed(4, dimension)
        parts = [whole.slice(0, 1), whole.slice(1, 1), whole.slice(1, 4)]
        assert [len(part) for part in parts] == [1, 0, 3]
        joined = concatenate(parts)
        assert torch.equal(batched([joined])["pixel_values"], batched([whole])["pixel_values"])
        assert joined.tensors["pixel_values"].entries == (1, 2, 3, 4)
    assert batched([concatenate([NO_IMAGES])]) == {}


def test_other_dimensions_are_padded_with_zeros() -> None:
    small = ImageInputs(1, {"p": PackedTensor(torch.ones(1, 2, 3), 0, (1,))})
    large = ImageInputs(1, {"p": PackedTensor(torch.ones(1, 4, 1), 0, (1,))})
    values = batched([concatenate([small, large])])["p"]
    assert values.shape == (2, 4, 3)
    assert values.sum() == 6 + 4 and values[0, :2].sum() == 6 and values[1, :, 0].sum() == 4


def test_rows_of_a_batch_keep_their_own_images() -> None:
    rows = [packed(2, 1), NO_IMAGES, packed(1, 1)]
    values = batched(rows)["pixel_values"]
    assert values.shape == (3, 3, 2)
    assert torch.equal(values[0], batched([packed(2, 1)])["pixel_values"][0])
    assert not values[1].any()
    assert torch.equal(values[2, :1], batched([packed(1, 1)])["pixel_values"][0])
    assert batched([NO_IMAGES, NO_IMAGES]) == {}
