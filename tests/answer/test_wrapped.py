"""Whatever wraps a model, pictures reach it; answers and identity are those of the model."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

import tasm
from tasm.backbone.checkpoint.families import FAMILIES
from tasm.backbone.checkpoint.processors import load_processor
from tests.tiny_folders import tiny_folder

pytestmark = [pytest.mark.matrix, pytest.mark.filterwarnings("ignore")]


class OneOfMyOwn(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inside = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inside(*args, **kwargs)


class Louder(OneOfMyOwn):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return 2 * self.inside(*args, **kwargs).logits


def lora(hf: Any, task: str | None = None) -> Any:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type=task)
    return peft.get_peft_model(hf, config)


def lora_alone(hf: Any) -> Any:
    peft = pytest.importorskip("peft")
    return peft.LoraModel(hf, peft.LoraConfig(r=2, target_modules=["q_proj"]), "default")


def offloaded(hf: Any) -> Any:
    return pytest.importorskip("accelerate").cpu_offload(hf, execution_device=torch.device("cpu"))


def lora_offloaded(hf: Any) -> Any:
    return offloaded(lora(hf))


def dispatched(hf: Any) -> Any:
    return pytest.importorskip("accelerate").dispatch_model(hf, {"": "cpu"}, force_hooks=True)


def opaque_forward(hf: Any) -> Any:
    own = hf.forward
    hf.forward = lambda *args, **kwargs: own(*args, **kwargs)
    return hf


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "LoRA": lora,
    "LoRA for a task": lambda hf: lora(hf, "CAUSAL_LM"),
    "LoRA alone": lora_alone,
    "torch.compile": lambda hf: torch.compile(hf, backend="eager"),
    "cpu_offload": offloaded,
    "cpu_offload of LoRA": lora_offloaded,
    "dispatch_model": dispatched,
    "DataParallel": nn.DataParallel,
    "a module of one's own": OneOfMyOwn,
    "in LoRA in one's own": lambda hf: OneOfMyOwn(lora(hf)),
    "a replaced forward": opaque_forward,
}
SLOW = "torch.compile"
CASES = [("llava", SLOW)]
CASES += [("qwen2_vl", name) for name in WRAPPERS if name != SLOW]
CASES += [
    (family, name)
    for family in ("llava", "gemma3", "llama")
    for name in ("LoRA", "a module of one's own", "cpu_offload")
]


class Plain:
    """A family's tiny model as transformers opens it, its memories of two sets of pictures."""

    def __init__(self, family: str, folder: Path) -> None:
        self.folder = tiny_folder(family, folder)
        self.has_images = FAMILIES[family].kind == "image-text"
        self.processor = load_processor(folder, family, has_images=self.has_images)
        auto: Any = AutoModelForImageTextToText if self.has_images else AutoModelForCausalLM
        self.hf = auto.from_pretrained(folder, dtype=torch.float32).eval()
        model = tasm.wrap(self.fresh(), self.processor)
        self.memories = [self.memory(model, colour) for colour in ("red", "blue")]
        self.logits = [self.first_logits(model, memory) for memory in self.memories]

    def fresh(self) -> Any:
        return copy.deepcopy(self.hf)

    def pictures(self, colour: str) -> list[Image.Image]:
        return [Image.new("RGB", (56, 56), colour)] if self.has_images else []

    def memory(self, model: tasm.Model, colour: str) -> tasm.TaskMemory:
        rows = [
            {"question": f"What is {n}?", "answer": "x" * n, "images": self.pictures(colour)}
            for n in (1, 2)
        ]
        if not self.has_images:
            rows.append({"question": colour, "answer": "yes", "images": []})
        return tasm.build(model, rows, recipe="full")

    def first_logits(self, model: tasm.Model, memory: tasm.TaskMemory) -> Tensor:
        inputs = model.inputs(memory, question="Which?", images=self.pictures("green"))
        with torch.no_grad():
            return model.hf(**inputs, past_key_values=memory.cache()).logits[:, -1]


@pytest.fixture(scope="module")
def plain_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Plain]:
    made: dict[str, Plain] = {}

    def plain(family: str) -> Plain:
        if family not in made:
            made[family] = Plain(family, tmp_path_factory.mktemp(family) / family)
        return made[family]

    return plain


@pytest.mark.parametrize(("family", "wrapper"), CASES)
def test_a_wrapper_changes_nothing(
    family: str, wrapper: str, plain_of: Callable[[str], Plain]
) -> None:
    plain = plain_of(family)
    model = tasm.wrap(WRAPPERS[wrapper](plain.fresh()), plain.processor)
    memories = [plain.memory(model, colour) for colour in ("red", "blue")]
    logits = [plain.first_logits(model, memory) for memory in memories]
    # Other demonstration pictures (or texts) are seen, and what is seen is what the model sees.
    assert (plain.logits[0] - plain.logits[1]).abs().max() > 1e-3
    for found, expected in zip(logits, plain.logits, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain.memories[0].check(model.backbone.identity)  # the same weights are the same model
        tasm.load_model(str(plain.folder)).backbone.identity.differences(memories[0].identity)
    assert (
        memories[0].identity.differences(
            tasm.wrap(plain.fresh(), plain.processor).backbone.identity
        )
        == []
    )
    answer = model.ask(
        memories[0], question="Which?", images=plain.pictures("green"), max_new_tokens=2
    )
    assert answer.text is not None


def test_what_computes_something_else_is_refused(plain_of: Callable[[str], Plain]) -> None:
    plain = plain_of("llama")
    with pytest.raises(tasm.errors.ModelError, match="something else than the LlamaForCausalLM"):
        tasm.wrap(Louder(plain.fresh()), plain.processor)


def test_adapters_that_put_tokens_before_the_prompt_are_refused(
    plain_of: Callable[[str], Plain],
) -> None:
    peft = pytest.importorskip("peft")
    plain = plain_of("llama")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(tasm.errors.ModelError, match=r"'default'.*puts tokens of its own"):
        tasm.wrap(peft.get_peft_model(plain.fresh(), config), plain.processor)


def test_a_model_that_takes_no_pixels_is_refused(
    plain_of: Callable[[str], Plain], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = plain_of("llava")
    hf = plain.fresh()

    def forward(self: Any, input_ids: Any = None, past_key_values: Any = None, **_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(type(hf), "forward", forward)
    model = tasm.wrap(hf, plain.processor)
    with pytest.raises(tasm.errors.ModelError, match=r"would get no pixels.*pixel_values"):
        plain.memory(model, "red")


def test_what_is_no_model_is_said_in_a_sentence(plain_of: Callable[[str], Plain]) -> None:
    plain = plain_of("llama")
    hf, processor = plain.fresh(), plain.processor
    for arguments, sentence in (
        ((None, None), "hf is None; expected a transformers model"),
        ((hf, None), "The processor is None; expected"),
        ((hf, "gpt2"), "The processor is a str"),
        ((processor, hf), "swapped"),
        ((str(plain.folder), processor), "hf is a str"),
        ((tasm.wrap(hf, processor), processor), "is a tasm.Model, which is wrapped already"),
        ((hf.model, processor), "no language head"),
        ((nn.Linear(2, 2), processor), "holds 0 transformers models"),
        ((nn.ModuleList([plain.fresh(), plain.fresh()]), processor), "holds 2 transformers models"),
    ):
        with pytest.raises(tasm.errors.ModelError, match=sentence):
            tasm.wrap(*arguments)


def test_training_mode_is_refused(plain_of: Callable[[str], Plain]) -> None:
    plain = plain_of("llama")
    model = tasm.wrap(plain.fresh(), plain.processor)
    memory = plain.memories[0]
    inputs = model.inputs(memory, question="Which?")
    model.hf.train()
    for call in (
        lambda: model.ask(memory, question="Which?"),
        lambda: plain.memory(model, "red"),
        lambda: model.hf.generate(**inputs, past_key_values=memory.cache(), max_new_tokens=1),
    ):
        with pytest.raises(tasm.errors.ModelError, match=r"training mode.*eval\(\)"):
            call()
