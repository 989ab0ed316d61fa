"""Training: what is learned from, that it can be interrupted, and what is written."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tasm.backbone import Backbone
from tasm.backbone.attention.function import ATTENTION
from tasm.demonstrations import read_demonstrations
from tasm.errors import DamageError, FormatError, InputError, MismatchError
from tasm.vision_memory.attached import VisionMemory
from tasm.vision_memory.module import alignment_loss
from tasm.vision_memory.saving import attach_vision_memory, read_saved, save_adapter
from tasm.vision_training.checkpoints import check_trainable
from tasm.vision_training.losses import losses
from tasm.vision_training.tasks import Task, draw, read_tasks, solved
from tasm.vision_training.train import Trained, TrainingSettings, train
from tests.backbone.conftest import PICTURES
from tests.vision_memory.conftest import shaken_memory

BackboneOf = Callable[[str], Backbone]
SETTINGS = TrainingSettings(steps=6, batch=2, at_once=1, shots=2, asked=2, rate=3e-3)


def rows(count: int = 5) -> list[dict[str, Any]]:
    return [
        {"question": f"Which of {n}?", "answer": f"no {n}", "images": [PICTURES[n % 5]]}
        for n in range(count)
    ]


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    """A task of five rows in a file, with pictures beside it."""
    found = []
    for number, row in enumerate(rows()):
        row.pop("images")[0].save(tmp_path / f"{number}.png")
        found.append({**row, "image": f"{number}.png"})
    file = tmp_path / "birds.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in found))
    return read_tasks([file])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_saved(folder).adapter().state_dict()


def test_trains_the_adapter_alone(
    backbone_of: BackboneOf, tasks: list[Task], tmp_path: Path
) -> None:
    backbone = backbone_of("qwen2_vl")
    frozen = {name: value.clone() for name, value in backbone.core.state_dict().items()}
    grads = {name: value.requires_grad for name, value in backbone.core.named_parameters()}
    found = train(backbone, tasks, tmp_path / "out", replace(SETTINGS, steps=20))
    assert isinstance(found, Trained) and len(found.curve) == 20
    assert sum(row["loss"] for row in found.curve[-5:]) < sum(r["loss"] for r in found.curve[:5])
    assert all(torch.equal(v, frozen[n]) for n, v in backbone.core.state_dict().items())
    assert {n: v.requires_grad for n, v in backbone.core.named_parameters()} == grads
    assert backbone.decoder.config._attn_implementation == ATTENTION
    assert backbone.vision is None
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors", "curves.csv"]
    assert len((tmp_path / "out" / "curves.csv").read_text().splitlines()) == 21


def test_interrupted_and_resumed_is_the_same(
    backbone_of: BackboneOf, tasks: list[Task], tmp_path: Path
) -> None:
    backbone = backbone_of("qwen2_vl")
    train(backbone, tasks, tmp_path / "whole", SETTINGS)

    def interrupt(stage: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(backbone, tasks, tmp_path / "cut", SETTINGS, checkpoint_every=3, progress=interrupt)
    assert backbone.vision is None
    with pytest.raises(InputError, match="--resume"):
        read_saved(tmp_path / "cut")
    with pytest.raises(InputError, match="has not ended"):
        check_trainable(tmp_path / "cut", resume=False, overwrite=False)
    with pytest.raises(InputError, match="rate differ"):
        train(backbone, tasks, tmp_path / "cut", replace(SETTINGS, rate=1.0), resume=True)
    train(backbone, tasks, tmp_path / "cut", SETTINGS, resume=True)
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(one[name], two[name]) for name in one)
    curves = [(tmp_path / name / "curves.csv").read_text() for name in ("whole", "cut")]
    assert curves[0] == curves[1]


def test_runs_a_pass_change_nothing(
    backbone_of: BackboneOf, tasks: list[Task], tmp_path: Path
) -> None:
    backbone = backbone_of("qwen2_vl")
    for at_once in (1, 3):
        settings = replace(SETTINGS, steps=1, batch=3, at_once=at_once)
        train(backbone, tasks, tmp_path / str(at_once), settings)
    one, two = weights(tmp_path / "1"), weights(tmp_path / "3")
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=2e-4, rtol=0)


def answer_place(
    tokenizer: Any, ids: list[int], span: tuple[int, int], text: str
) -> tuple[int, int]:
    """Where the last tokens of a demonstration stand that spell a text, white space before it."""
    for start in range(span[1] - 1, span[0], -1):
        for stop in range(start + 1, span[1]):
            if tokenizer.decode(ids[start:stop]).strip() == text:
                return start, stop
    raise AssertionError(text)


@pytest.mark.parametrize("family", ["qwen2_vl", "idefics3", "llava"])
def test_the_asked_answers_are_learned_and_nothing_else(
    backbone_of: BackboneOf, family: str
) -> None:
    backbone = backbone_of(family)
    vision = shaken_memory(backbone)
    tokenizer: Any = backbone.tokenizer
    transcript = backbone.transcript(read_demonstrations(rows(3)))
    vision.attach()
    try:
        with torch.no_grad(), vision.listening() as heard:
            found = losses(vision, [transcript], [1])
            inputs = backbone.transcript_inputs([transcript])
            logits = backbone.core(**inputs).logits[0]
    finally:
        vision.remove()
    ids = transcript.input_ids.tolist()
    expected, count = 0.0, 0
    for number in (1, 2):
        start, stop = answer_place(tokenizer, ids, transcript.spans[number], f"no {number}")
        for place in range(start, stop + 1):  # and the token that ends it
            expected -= float(logits[place - 1].log_softmax(-1)[ids[place]])
            count += 1
    assert found.tokens == count and found.asked == 2
    assert float(found.answers) == pytest.approx(expected, rel=1e-4)
    # Alignment: all three, each its own images' last memories against its own answer.
    table = backbone.core.get_input_embeddings()
    projected = vision.tower.project(heard[-1])
    parts = [1, 1, 1]
    if family == "idefics3":
        parts = list(transcript.images.tensors["pixel_values"].entries)
    first, aligned = 0, 0.0
    for number, many in enumerate(parts):
        place = answer_place(tokenizer, ids, transcript.spans[number], f"no {number}")
        answer = torch.tensor(ids[slice(*place)])
        with torch.no_grad():
            mine = projected[first : first + many]
            aligned += float(alignment_loss(mine, table(answer).mean(0)))
        first += many
    assert found.pairs == 3
    assert float(found.alignment) == pytest.approx(aligned, rel=1e-3)


def test_saved_and_read_again(
    backbone_of: BackboneOf, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    backbone = backbone_of("qwen2_vl")
    vision = shaken_memory(backbone)
    save_adapter(tmp_path / "a", vision, {"steps": 3})
    document = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert document["peft_type"] == "MEMA"
    assert document["base_model_name_or_path"] == backbone.name
    again = attach_vision_memory(backbone, tmp_path / "a")
    try:
        assert again.digest == vision.digest and again.place == str(tmp_path / "a")
    finally:
        again.remove()
    with pytest.raises(MismatchError, match="trained on another model"):
        attach_vision_memory(backbone_of("llava"), tmp_path / "a")
    with pytest.raises(InputError, match="is no vision memory"):
        read_saved(tmp_path)
    data = bytearray((tmp_path / "a" / "adapter_model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a" / "adapter_model.safetensors").write_bytes(data)
    with pytest.raises(DamageError, match="is damaged"):
        attach_vision_memory(backbone, tmp_path / "a")
    document["peft_type"] = "LORA"
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match="'LORA'"):
        read_saved(tmp_path / "a")
    assert backbone.vision is None


def test_another_weight_is_another_digest(backbone_of: BackboneOf) -> None:
    vision: VisionMemory = shaken_memory(backbone_of("qwen2_vl"))
    before = vision.digest
    with torch.no_grad():
        vision.adapter.get_parameter("update.forget_bias")[3] += 1e-3
    assert vision.digest != before


def test_a_run_shows_some_and_asks_others(tasks: list[Task]) -> None:
    from random import Random

    (task,) = tasks
    run = draw(Random(0), task, shots=2, asked=2)
    assert run.shown == 2 and len({row.id for row in run.rows}) == 4
    short = draw(Random(0), task, shots=9, asked=3)
    assert len(short.rows) == 5 and short.shown == 2
    assert solved(task.asked[0]).messages == task.shown[0].messages


def test_a_suites_folder_asks_its_queries(tmp_path: Path) -> None:
    from tasm.suites.suites import write_suite

    write_suite("read", tmp_path / "read-1", seed=1, demonstrations=3, queries=2)
    write_suite("read", tmp_path / "read-2", seed=2, demonstrations=3, queries=2)
    one, two = read_tasks([tmp_path])
    assert one.asks_others and len(one.shown) == 3 and len(one.asked) == 2
    assert one.digest != two.digest


def test_nothing_to_see_is_refused(backbone_of: BackboneOf, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"question": "a?", "answer": "b"}\n{"question": "c?", "answer": "d"}\n')
    with pytest.raises(InputError, match="has a picture"):
        train(backbone_of("qwen2_vl"), read_tasks([file]), tmp_path / "out", SETTINGS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        check_trainable(tmp_path / "out", resume=False, overwrite=True)


def test_a_model_in_16_bits_trains_an_adapter_in_32(
    folder_of: Callable[[str], Path], tasks: list[Task], tmp_path: Path
) -> None:
    from tasm.backbone import load_backbone

    half = load_backbone(folder_of("qwen2_vl"), dtype="bfloat16")
    train(half, tasks, tmp_path / "out", replace(SETTINGS, steps=2))
    tensors = weights(tmp_path / "out")
    assert {value.dtype for value in tensors.values()} == {torch.float32}
    assert all(bool(torch.isfinite(value).all()) for value in tensors.values())
    # The same weights in another dtype are the model that it was trained on.
    attach_vision_memory(load_backbone(folder_of("qwen2_vl")), tmp_path / "out").remove()
