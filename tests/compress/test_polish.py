"""`polish=N`: what is learned, what is kept of it, what is refused."""

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import tasm
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.kernels import merge, partial_attention
from tasm.backbone.loading import load_backbone
from tasm.backbone.model import Backbone
from tasm.compress.polish import polishing, telling
from tasm.compress.polish.changed_pictures import part_of, quarters_of
from tasm.compress.polish.polishing import Lessons, prepared
from tasm.compress.polish.pupil import Pupil
from tasm.compress.polish.questions import Kind, kinds_of, pictures_of
from tasm.compress.polish.teaching import Teacher
from tasm.compress.polish.telling import telling_words
from tasm.demonstrations import Demonstration, read_demonstrations
from tasm.errors import InputError, ModelError
from tasm.memory import TaskMemory
from tests.tiny_folders import tiny_folder

COLOURS = ("red", "blue", "green", "white", "yellow", "black")


def shown(pictures: bool = True) -> list[Demonstration]:
    rows: list[dict[str, Any]] = []
    for number, colour in enumerate(COLOURS):
        row: dict[str, Any] = {"question": f"Name number {number}", "answer": colour}
        if pictures:
            row["image"] = Image.new("RGB", (56, 56), colour)
        rows.append(row)
    return list(read_demonstrations(rows))


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Backbone]:
    folder, made = tmp_path_factory.mktemp("models"), dict[str, Backbone]()

    def find(family: str) -> Backbone:
        if family not in made:
            made[family] = load_backbone(str(tiny_folder(family, folder / family)))
        return made[family]

    return find


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few questions, and whatever is learned is kept."""
    monkeypatch.setattr(polishing, "_LEARNED", 12)
    monkeypatch.setattr(polishing, "_JUDGING", 6)
    monkeypatch.setattr(polishing, "GAIN", -1e9)
    monkeypatch.setattr(polishing, "SURE", -1e9)
    monkeypatch.setattr("tasm.compress.polish.telling.TRIED", 20)
    monkeypatch.setattr("tasm.compress.polish.telling.WORDS", 1)


def lessons_of(backbone: Backbone) -> Lessons:
    transcript = backbone.transcript(shown())
    full = MemoryCache.empty(backbone.hf.config)
    backbone.encode(transcript, full)
    full.commit()
    return prepared(backbone, full, transcript, shown(), 0)


def build(backbone: Backbone, **given: Any) -> TaskMemory:
    return tasm.build(backbone, shown(), recipe="compact", core="40", notice=None, **given)


def test_gradients_of_merged_runs_are_those_of_one_softmax() -> None:
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, 3, 8, generator=draw)
    keys = torch.randn(1, 2, 7, 8, generator=draw).requires_grad_()
    values = torch.randn(1, 2, 7, 8, generator=draw).requires_grad_()
    bias = torch.randn(1, 2, 1, 7, generator=draw).requires_grad_()
    live = torch.randn(2, 2, 3, 8, generator=draw)
    runs = [
        partial_attention(query, keys, values, bias, 0.3),
        partial_attention(query, live, live, None, 0.3, causal=True),
    ]
    found = merge(runs)

    every = torch.cat([keys.expand(2, -1, -1, -1), live], 2).repeat_interleave(2, 1)
    taken = torch.cat([values.expand(2, -1, -1, -1), live], 2).repeat_interleave(2, 1)
    hidden = torch.full((3, 3), -1e30).triu(1).expand(1, 4, 3, 3)
    added = torch.cat([bias.repeat_interleave(2, 1).expand(1, 4, 3, 7), hidden], 3)
    expected = (query @ every.transpose(2, 3) * 0.3 + added).softmax(-1) @ taken
    assert torch.allclose(found, expected, atol=1e-5)
    weights = torch.randn(found.shape, generator=draw)
    ours = torch.autograd.grad((found * weights).sum(), (keys, values, bias))
    theirs = torch.autograd.grad((expected * weights).sum(), (keys, values, bias))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("family", ["qwen2_vl", "gemma3", "idefics3"])
def test_the_full_context_learns_nothing_of_itself(
    model_of: Callable[[str], Backbone], family: str
) -> None:
    backbone = model_of(family)
    full = tasm.build(backbone, shown(), recipe="full")
    lessons = lessons_of(backbone)
    pupil = Pupil(
        backbone,
        full.core,
        [None] * backbone.geometry.layers,
        full.next_position,
        full.logical_length,
    )
    for taught in (*lessons.learned, *lessons.judged):
        assert float(pupil.loss(taught).detach()) == pytest.approx(0.0, abs=1e-5)


def test_a_teacher_makes_no_logits_that_nobody_reads(model_of: Callable[[str], Backbone]) -> None:
    backbone = model_of("qwen2_vl")
    rows: list[int] = []
    handle = backbone.hf.get_output_embeddings().register_forward_hook(
        lambda head, given, product: rows.append(product.numel() // product.shape[-1])
    )
    try:
        lessons_of(backbone)
    finally:
        handle.remove()
    assert max(rows) <= 64  # one a question, of as many as are asked at once


def test_what_was_read_is_not_read_again_and_few_pictures_are_held(
    model_of: Callable[[str], Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = model_of("qwen2_vl")
    asked: list[int] = []
    encoded: list[int] = []
    laid_out, encode = Backbone.query_inputs, Backbone.encode

    def counted(mine: Backbone, queries: Any, **given: Any) -> Any:
        asked.append(sum(len(one.pictures) for one in queries))
        return laid_out(mine, queries, **given)

    def counting(mine: Backbone, transcript: Any, cache: Any) -> Any:
        encoded.append(len(transcript))
        return encode(mine, transcript, cache)

    monkeypatch.setattr(Backbone, "query_inputs", counted)
    monkeypatch.setattr(Backbone, "encode", counting)
    build(backbone, polish=2)
    assert encoded == [len(backbone.transcript(shown()))]
    assert 4 < max(asked) <= 8


@pytest.mark.parametrize("family", ["qwen2_vl", "gemma3"])
def test_it_learns_and_touches_nothing_else(
    model_of: Callable[[str], Backbone], family: str, tmp_path: Path
) -> None:
    backbone = model_of(family)
    weights = {name: tensor.clone() for name, tensor in backbone.core.state_dict().items()}
    needed = [parameter.requires_grad for parameter in backbone.core.parameters()]
    plain, first, second = build(backbone), build(backbone, polish=8), build(backbone, polish=8)
    notes = first.recipe["notes"]["polish"]
    assert notes["step"] > 0 and notes["after"] < notes["before"]
    assert first.report["seconds"]["polish"] > 0
    assert first.core_bytes == plain.core_bytes
    for before, after, again in zip(plain.core, first.core, second.core, strict=True):
        assert before is not None and after is not None and again is not None
        assert torch.equal(before.index, after.index) and (before.bias is None) is (
            after.bias is None
        )
        assert torch.equal(after.keys, again.keys) and torch.equal(after.values, again.values)
    assert any(
        before is not None and after is not None and not torch.equal(before.values, after.values)
        for before, after in zip(plain.core, first.core, strict=True)
    )
    now = backbone.core.state_dict()
    assert all(torch.equal(tensor, now[name]) for name, tensor in weights.items())
    assert [parameter.requires_grad for parameter in backbone.core.parameters()] == needed
    assert all(parameter.grad is None for parameter in backbone.core.parameters())

    first.save(tmp_path / "one.tasm")
    loaded = tasm.load(tmp_path / "one.tasm")
    loaded.check_all()
    again = tasm.rebuild(loaded, backbone, shown())
    assert again.recipe["settings"]["polish"] == 8
    for mine, theirs in zip(again.core, loaded.core, strict=True):
        assert mine is not None and theirs is not None and torch.equal(mine.values, theirs.values)


def test_what_is_not_better_is_not_kept(
    model_of: Callable[[str], Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polishing, "GAIN", 1e9)
    backbone = model_of("qwen2_vl")
    plain, polished = build(backbone), build(backbone, polish=3)
    notes = polished.recipe["notes"]["polish"]
    assert notes["step"] == 0 and notes["before"] == notes["after"]
    for before, after in zip(plain.core, polished.core, strict=True):
        assert before is not None and after is not None
        assert torch.equal(before.keys, after.keys) and torch.equal(before.values, after.values)


@pytest.mark.parametrize("family", ["qwen2_vl", "gemma3"])
def test_in_inference_mode_it_learns_as_well(
    model_of: Callable[[str], Backbone], family: str
) -> None:
    backbone = model_of(family)
    with torch.inference_mode():
        inside = build(backbone, polish=3)
    outside = build(backbone, polish=3)
    assert inside.recipe["notes"] == outside.recipe["notes"]
    for mine, theirs in zip(inside.core, outside.core, strict=True):
        assert mine is not None and theirs is not None and torch.equal(mine.values, theirs.values)


def test_packed_after_it_is_polished(model_of: Callable[[str], Backbone]) -> None:
    backbone = model_of("qwen2_vl")
    packed = build(backbone, polish=4, store="int8")
    expected = build(backbone, polish=4).packed("int8", backbone)
    assert packed.packing == "int8"
    for mine, theirs in zip(packed.core, expected.core, strict=True):
        assert mine is not None and theirs is not None and torch.equal(mine.values, theirs.values)


def test_refusals(model_of: Callable[[str], Backbone], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = model_of("qwen2_vl")
    for given in ({"mode": "streaming"}, {"mode": "independent"}, {"recipe": "full"}):
        with pytest.raises(InputError, match="polish=5 cannot be done"):
            tasm.build(backbone, shown(), polish=5, **given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="polish"):
        tasm.build(backbone, shown(), polish=-1)
    with pytest.raises(InputError, match="at least 2 demonstrations"):
        tasm.build(backbone, shown()[:1], core="60%", polish=5)
    with pytest.raises(InputError, match="at least 2 demonstrations"):
        tasm.plan(backbone, shown()[:1], core="60%", polish=5)
    monkeypatch.setattr(backbone.core, "is_quantized", True, raising=False)
    with pytest.raises(ModelError, match="quantised weights"):
        tasm.build(backbone, shown(), polish=5)


def test_a_model_without_full_attention_is_refused(model_of: Callable[[str], Backbone]) -> None:
    backbone = copy.copy(model_of("qwen2_vl"))
    kinds = ("sliding",) * backbone.geometry.layers
    backbone.geometry = replace(backbone.geometry, layer_kinds=kinds)
    with pytest.raises(ModelError, match="no layer with full attention"):
        polishing.check_polishing(backbone, shown())


def test_questions_are_what_their_kind_says() -> None:
    one = shown()[0]
    pictures = pictures_of(shown())
    rng = random.Random(0)

    def text(kind: Kind) -> str:
        return kind.of(one, pictures, rng).question.replace("<image>", "").strip()

    assert text(Kind()) == "Name number 0"
    assert text(Kind("a word after", "left")) == "Name number 0 left"
    assert text(Kind("a word alone", "left")) == "left"
    words = text(Kind("a word instead", "left")).split()
    assert len(words) == 3 and words.count("left") == 1
    assert Kind(shown="none").of(one, pictures, rng).pictures == ()
    assert Kind().of(one, pictures, rng).pictures == one.pictures
    for kind in kinds_of(["left"], True):
        assert len(kind.of(one, pictures, rng).pictures) == (kind.shown != "none")
    without = shown(pictures=False)
    assert {kind.shown for kind in kinds_of(["left"], bool(pictures_of(without)))} == {"its own"}


def test_a_model_that_says_no_numbers_is_not_asked_about_them_first(
    model_of: Callable[[str], Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one in float16 does of what is too large for it."""
    monkeypatch.setattr(telling, "WORDS", 3)
    monkeypatch.setattr(telling, "vocabulary", lambda tokenizer, rng: ["left", "right", "up"])
    backbone = model_of("qwen2_vl")
    told = torch.tensor([[0.9, 0.1], [torch.nan] * 2, [0.5] * 2, [0.1, 0.9], [0.5] * 2, [0.5] * 2])
    monkeypatch.setattr(Teacher, "first_tokens", lambda teacher, queries: told)
    full = tasm.build(backbone, shown(), recipe="full")
    teacher = Teacher(backbone, full.cache, full.layout, 1, True)
    assert telling_words(teacher, shown(), random.Random(0)) == ["left", "up", "right"]


def test_changed_pictures_keep_their_size() -> None:
    rng = random.Random(0)
    halves = Image.new("RGB", (40, 20), "red")
    halves.paste("blue", (20, 0, 40, 20))
    for _ in range(20):
        part = part_of(halves, rng)
        assert part.size == (40, 20)
    mixed = quarters_of([halves, Image.new("RGB", (8, 8), "green")], rng)
    found = {mixed.getpixel(place) for place in ((5, 5), (35, 5), (5, 15), (35, 15))}
    assert mixed.size == (40, 20) and found <= {(255, 0, 0), (0, 0, 255), (0, 128, 0)}


def test_a_model_on_several_devices_is_refused(model_of: Callable[[str], Backbone]) -> None:
    backbone = model_of("idefics3")
    twin = torch.nn.Parameter(torch.zeros(1, device="meta"))
    backbone.core.register_parameter("elsewhere", twin)
    try:
        with pytest.raises(ModelError, match="one device"):
            polishing.check_polishing(backbone, shown())
    finally:
        del backbone.core._parameters["elsewhere"]


def test_a_seed_gives_other_questions(model_of: Callable[[str], Backbone]) -> None:
    backbone = model_of("qwen2_vl")
    first, second = (build(backbone, polish=4, seed=seed) for seed in (1, 2))
    one, other = first.core[-1], second.core[-1]
    assert one is not None and other is not None
    assert not torch.equal(one.values, other.values)
    assert torch.equal(one.index, other.index)
