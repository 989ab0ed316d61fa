"""The whole way on a device that is not the host, with a real processor and `generate`, compared
with the same on a plain CPU; and the attention kernels that only CUDA has, chosen as there."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import tasm
from tasm.backbone.attention.kernels import choosing
from tasm.backbone.checkpoint.random_models import random_model
from tests.compress.tiny_backbone import TinyBackbone, build_tiny, logits_after
from tests.devices.elsewhere import assert_same_layer, elsewhere
from tests.pretended_device import moved, pretending, values
from tests.tiny_models import tiny_model

WORDS = [20, 21, 22]


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (56, 56), (number * 40 % 256, 90, 200 - number * 30))


def go_all_the_way(device: str | None, folder: Path) -> tuple[list[Any], list[str]]:
    """Memories built, saved and loaded, and every answer on the way."""
    hf, processor = random_model("qwen2_vl-tiny")
    if device is not None:
        moved(hf, device)
    model = tasm.wrap(hf, processor)
    rows = [
        {"images": [picture(number)], "question": "Which?", "answer": "ab"[number % 2]}
        for number in range(3)
    ]
    queries = [
        {"images": [picture(5)], "question": "Which?"},
        {"images": [picture(6)], "question": "Which one of them?"},
    ]
    built = tasm.build(model, rows, recipe="tasm", core="40%", bank="40%")
    built.save(folder / "m.tasm")
    loaded = tasm.load(folder / "m.tasm")
    streamed = tasm.build(
        model, rows, core="30", bank="20", mode="streaming", chunk_tokens=60, recipe="snapkv"
    )
    texts = [
        model.ask(memory, max_new_tokens=3, **queries[0]).text
        for memory in (built, loaded, streamed)
    ]
    texts += [
        answer.text for answer in model.ask_all(loaded, queries, max_new_tokens=3, batch_size=2)
    ]
    return [built, streamed], texts


def test_build_save_load_ask_and_batch(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    expected, texts = go_all_the_way(None, tmp_path / "here")
    (tmp_path / "there").mkdir()
    with pretending():
        found, others = go_all_the_way("pretended", tmp_path / "there")
    assert others == texts
    for one, other in zip(found, expected, strict=True):
        for layer, wanted in zip(one.core, other.core, strict=True):
            assert_same_layer(layer, wanted)
    # What lies on disk does not tell where it was built: each opens on the other's side.
    assert tasm.load(tmp_path / "there" / "m.tasm").identity.differences(expected[0].identity) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernels_of_cuda(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their arguments are what CUDA takes, and the answer is the written-out one's."""
    chosen = set()
    choose = choosing.kernel_for

    def as_on_cuda(device_type: str, *asked: Any) -> Any:
        chosen.add(choose("cuda", *asked))
        return choose("cuda", *asked)

    here = TinyBackbone(tiny_model("llama"))
    here.hf.to(dtype)
    given: dict[str, Any] = {"recipe": "tasm-merging", "core": "60%"}
    expected = logits_after(here, build_tiny(here, 4, **given).cache(), WORDS)
    monkeypatch.setattr(choosing, "kernel_for", as_on_cuda)
    with pretending():
        there = elsewhere("llama", dtype)
        found = values(logits_after(there, build_tiny(there, 4, **given).cache(), WORDS))
    assert ("cuda efficient" if dtype == torch.float32 else "cuda flash") in chosen
    close = 1e-4 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(found.float(), expected.float(), atol=close, rtol=0)
