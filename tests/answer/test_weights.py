"""A memory is answered by the weights it was built with, and by no others."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import tasm
from tasm.backbone.running import weights as weights_module
from tasm.backbone.running.guard import folder_source
from tasm.backbone.running.in_memory import earlier_parts, earlier_weights
from tasm.backbone.running.weights import RunningWeights
from tasm.errors import InputError, MismatchError, ModelError
from tests.tiny_folders import tiny_folder

pytestmark = [pytest.mark.matrix, pytest.mark.filterwarnings("ignore")]
ROWS = [
    {"question": f"What is {n}?", "answer": "x" * n, "image": Image.new("RGB", (56, 56), colour)}
    for n, colour in enumerate(("red", "blue"), 1)
]
QUERY: dict[str, Any] = {"question": "Which?", "images": [Image.new("RGB", (56, 56), "green")]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder("llava", tmp_path_factory.mktemp("weights") / "llava")


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    return tasm.load_model(str(folder)).processor


@pytest.fixture(scope="module")
def memory(folder: Path) -> tasm.TaskMemory:
    return tasm.build(tasm.load_model(str(folder)), ROWS, recipe="full")


def build(model: tasm.Model) -> tasm.TaskMemory:
    return tasm.build(model, ROWS, recipe="full")


def answers(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    """Ask in both ways; both must say the same of the memory."""
    with torch.no_grad():
        inputs = model.backbone.query_inputs([tasm.make_query(**QUERY)], layout=memory.layout)
    refusals = []
    for call in (
        lambda: model.ask(memory, **QUERY, max_new_tokens=1),
        lambda: model.hf.generate(
            **inputs, past_key_values=memory.cache(dtype=model.backbone.dtype), max_new_tokens=1
        ),
        lambda: model.hf(**inputs, past_key_values=memory.cache(dtype=model.backbone.dtype).fork()),
    ):
        try:
            call()
        except MismatchError as error:
            refusals.append(error)
    assert len(refusals) in (0, 3)
    if refusals:
        raise refusals[0]


def loaded(folder: Path) -> tasm.Model:
    return tasm.load_model(str(folder))


def wrapped(folder: Path) -> tasm.Model:
    model = loaded(folder)
    return tasm.wrap(model.hf, model.processor)


def first_linear(hf: Any) -> Any:
    return hf.get_decoder().layers[0].self_attn.k_proj


def no_grad(hf: Any) -> None:
    with torch.no_grad():
        first_linear(hf).weight[3, 5] += 1


def data(hf: Any) -> None:
    first_linear(hf).weight.data[3, 5] += 1


def inference(hf: Any) -> None:
    with torch.inference_mode():
        hf.get_input_embeddings().weight[7, 3] += 1


def step(hf: Any) -> None:
    first_linear(hf).weight.grad = torch.ones_like(first_linear(hf).weight)
    torch.optim.SGD([first_linear(hf).weight], lr=0.1).step()


def state_dict(hf: Any) -> None:
    hf.load_state_dict({name: value * 1.01 for name, value in hf.state_dict().items()})


def replaced(hf: Any) -> None:
    own = first_linear(hf)
    twin = nn.Linear(own.in_features, own.out_features, bias=own.bias is not None)
    hf.get_decoder().layers[0].self_attn.k_proj = twin


def swapped(hf: Any) -> None:
    layers = hf.get_decoder().layers
    layers[0].mlp, layers[1].mlp = layers[1].mlp, layers[0].mlp


def quantised(hf: Any) -> None:
    torch.ao.quantization.quantize_dynamic(hf, {nn.Linear}, dtype=torch.qint8, inplace=True)


def tower(hf: Any) -> None:
    with torch.no_grad():
        next(p for n, p in hf.named_parameters() if "vision" in n and p.ndim == 1)[0] += 1


CHANGES = (no_grad, data, inference, step, state_dict, replaced, swapped, quantised, tower)


@pytest.mark.parametrize("opened", [loaded, wrapped])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_after_loading_is_another_model(
    change: Callable[[Any], None],
    opened: Callable[[Path], tasm.Model],
    folder: Path,
    memory: tasm.TaskMemory,
) -> None:
    model = opened(folder)
    answers(model, memory)
    change(model.hf)
    with pytest.raises(MismatchError, match=r"another model: weights\."):
        answers(model, memory)
    own = build(model)
    answers(model, own)
    with pytest.raises(MismatchError, match=r"another model: weights\."):
        answers(opened(folder), own)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_before_the_first_use_is_seen(
    change: Callable[[Any], None], folder: Path, memory: tasm.TaskMemory
) -> None:
    model = loaded(folder)
    change(model.hf)
    with pytest.raises(MismatchError, match=r"another model: weights\."):
        model.ask(memory, **QUERY)


@pytest.mark.parametrize("change", [c for c in CHANGES if c is not inference])
def test_a_large_model_is_not_read_anew_yet_changes_are_seen(
    change: Callable[[Any], None],
    folder: Path,
    memory: tasm.TaskMemory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights_module, "READ_EACH_TIME", 0)
    read: list[int] = []
    real = weights_module.exact_digest
    monkeypatch.setattr(weights_module, "exact_digest", lambda value: read.append(1) or real(value))
    model = wrapped(folder)
    answers(model, memory)
    before = len(read)
    answers(model, memory)
    assert len(read) == before > 0
    if change is data:  # a single value that is not sampled is what a large model may hide
        first_linear(model.hf).weight.data[:] += 1
    else:
        change(model.hf)
    with pytest.raises(MismatchError, match=r"another model: weights\."):
        answers(model, memory)


def test_the_same_weights_written_again_are_the_same(folder: Path, memory: tasm.TaskMemory) -> None:
    model = loaded(folder)
    model.hf.load_state_dict(copy.deepcopy(model.hf.state_dict()))
    answers(model, memory)


@pytest.mark.parametrize("opened", [loaded, wrapped])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_dtype_is_warned_of_and_not_refused(
    dtype: torch.dtype,
    opened: Callable[[Path], tasm.Model],
    folder: Path,
    memory: tasm.TaskMemory,
) -> None:
    model = opened(folder)
    model.hf.to(dtype)
    name = str(dtype).removeprefix("torch.")
    with pytest.warns(
        UserWarning, match=f"weights in float32, the model runs with weights in {name}"
    ):
        memory.check(model.backbone.identity)
    built = tasm.load_model(str(folder), dtype=dtype)
    assert build(built).identity.differences(wrapped(folder).backbone.identity) == []
    with torch.no_grad():
        first_linear(model.hf).weight *= 2
    with pytest.raises(MismatchError, match="weights"):
        memory.check(model.backbone.identity)


def test_quantised_while_loading_is_warned_of(folder: Path, memory: tasm.TaskMemory) -> None:
    model = loaded(folder)
    quantised(model.hf)
    model.hf.config.quantization_config = {"quant_method": "gptq"}
    here = tasm.wrap(model.hf, model.processor)
    with pytest.warns(UserWarning, match="quantisation none"):
        memory.check(here.backbone.identity)
    tower(model.hf)
    with pytest.raises(MismatchError, match="weights"):
        memory.check(here.backbone.identity)


def lora(hf: Any, name: str, seed: int, **settings: Any) -> Any:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "k_proj"], **settings)
    if hasattr(hf, "add_adapter") and hasattr(hf, "base_model") and hasattr(hf, "peft_config"):
        hf.add_adapter(name, config)
        model = hf
    else:
        model = peft.get_peft_model(hf, config, adapter_name=name)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if f"lora_B.{name}" in parameter_name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 5)
    return model


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_active_adapters_count_and_are_named(
    settings: dict[str, Any], folder: Path, memory: tasm.TaskMemory
) -> None:
    base = loaded(folder)
    model = tasm.wrap(lora(base.hf, "birds", 1, **settings), base.processor)
    with pytest.raises(MismatchError, match="built without an adapter; now 'birds' is active"):
        answers(model, memory)
    birds = build(model)
    assert birds.identity.environment["adapters"] == "birds"
    answers(model, birds)
    with model.hf.disable_adapter():
        answers(model, memory)
        with pytest.raises(MismatchError, match=r"adapter 'birds' active; now none is: model\.hf"):
            answers(model, birds)
    with pytest.raises(MismatchError, match=r"now none is: model\.hf\.set_adapter\('birds'\)"):
        answers(loaded(folder), birds)
    settings = {} if "modules_to_save" in settings else settings
    lora(model.hf, "fish", 2, **settings)
    answers(model, birds)
    model.hf.set_adapter("fish")
    with pytest.raises(MismatchError, match="'birds' active; now 'fish' is"):
        answers(model, birds)
    model.hf.set_adapter("birds")
    answers(model, birds)
    plain = tasm.wrap(model.hf.unload(), base.processor)
    answers(plain, memory)
    with pytest.raises(MismatchError, match="'birds' active; now none is"):
        answers(plain, birds)


def test_merging_makes_the_same_model_of_an_adapter(folder: Path, memory: tasm.TaskMemory) -> None:
    base = loaded(folder)
    model = tasm.wrap(lora(base.hf, "birds", 1), base.processor)
    birds = build(model)
    model.hf.merge_adapter()
    answers(model, birds)
    with pytest.raises(MismatchError, match="weights"):
        answers(model, memory)
    merged = tasm.wrap(model.hf.merge_and_unload(), base.processor)
    answers(merged, birds)
    with pytest.raises(MismatchError, match="weights"):
        answers(base, memory)  # the model that tasm loaded is the one that was merged into


def earlier_of(model: tasm.Model) -> dict[str, str]:
    """What version 0.1 recorded of a wrapped model."""
    parts = earlier_parts(model.hf, model.processor) | {"weights": earlier_weights(model.hf)}
    return {name: value for name, value in parts.items() if name != "name"}


def test_memories_of_earlier_versions(
    folder: Path, memory: tasm.TaskMemory, processor: Any, tmp_path: Path
) -> None:
    files = folder_source(folder)()
    old = memory.replaced(identity=tasm.backbone.Identity(files))
    answers(loaded(folder), old)
    twin = copy.deepcopy(loaded(folder))
    answers(twin, old)
    changed = loaded(folder)
    no_grad(changed.hf)
    with pytest.raises(MismatchError, match=r"weights\. It was written by an earlier tasm"):
        answers(changed, old)
    with pytest.raises(MismatchError, match="open the model from the folder"):
        wrapped(folder).ask(old, **QUERY)
    # A wrapped model's: its parameters, or its name and commit alone.
    model = wrapped(folder)
    parts = earlier_of(model)
    old = memory.replaced(identity=tasm.backbone.Identity(parts))
    answers(model, old)
    answers(loaded(folder), old)
    no_grad(model.hf)
    with pytest.raises(MismatchError, match="weights"):
        model.ask(old, **QUERY)
    model.hf.config._name_or_path, model.hf.config._commit_hash = "owner/name", "c0ffee"
    old = memory.replaced(identity=tasm.backbone.Identity(earlier_of(model)))
    with pytest.warns(UserWarning, match="knew the model as owner/name@c0ffee alone"):
        model.ask(old, **QUERY, max_new_tokens=1)


def test_a_saved_memory_keeps_what_runs(
    folder: Path, memory: tasm.TaskMemory, tmp_path: Path
) -> None:
    memory.save(tmp_path / "m.tasm")
    recorded = json.loads((tmp_path / "m.tasm" / "memory.json").read_text())["model"]["identity"]
    assert len(recorded["running weights"]) == 64
    answers(wrapped(folder), tasm.load(tmp_path / "m.tasm"))
    other = tiny_folder("llava", tmp_path / "other", seed=3)
    with pytest.raises(MismatchError, match=r"another model: weights\."):
        answers(wrapped(other), tasm.load(tmp_path / "m.tasm"))


def test_files_changed_on_disk_are_not_what_was_loaded(
    memory: tasm.TaskMemory, tmp_path: Path
) -> None:
    folder = tiny_folder("llava", tmp_path / "llava")
    model = loaded(folder)
    tiny_folder("llava", folder, seed=3)
    assert build(model).identity.differences(memory.identity) == []
    assert "weights" in build(model).identity.differences(loaded(folder).backbone.identity)


def test_the_template_as_it_is_counts(folder: Path, memory: tasm.TaskMemory) -> None:
    model = loaded(folder)
    model.processor.chat_template += " "
    with pytest.raises(MismatchError, match=r"another model: chat template\."):
        model.ask(memory, **QUERY)


class Packed(nn.Module):
    """Like the layers of quantising libraries: integers, a scale, nothing that is a weight."""

    def __init__(self, linear: nn.Linear, kept: str) -> None:
        super().__init__()
        self.in_features = linear.in_features
        scale = linear.weight.detach().abs().max() / 127
        packed = (linear.weight.detach() / scale).round().to(torch.int8)
        if kept == "buffers":
            self.register_buffer("qweight", packed)
        else:
            self.packed = packed
        self.scale, self.kept, self.bias = float(scale), kept, linear.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        held = self.qweight if self.kept == "buffers" else self.packed
        return nn.functional.linear(states, held.to(states) * self.scale, self.bias)


@pytest.mark.parametrize("kept", ["buffers", "attributes"])
def test_weights_that_are_no_parameters_count(kept: str, folder: Path) -> None:
    def packed() -> tasm.Model:
        model = loaded(folder)
        for module in list(model.hf.get_decoder().layers.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(module, name, Packed(child, kept))
        return tasm.wrap(model.hf, model.processor)

    model = packed()
    own = tasm.build(model, ROWS)
    answers(packed(), own)
    layer = first_linear(model.hf)
    (layer.qweight if kept == "buffers" else layer.packed)[0, 0] += 1
    with pytest.raises(MismatchError, match="weights"):
        answers(model, own)


@pytest.mark.parametrize("recipe", ["tasm", "tasm-paper"])
def test_a_dynamically_quantised_model_builds_and_answers(recipe: str, folder: Path) -> None:
    model = loaded(folder)
    quantised(model.hf)
    model = tasm.wrap(model.hf, model.processor)
    own = tasm.build(model, ROWS, recipe=recipe, core="60%")
    answers(model, own)
    twin = tasm.wrap(copy.deepcopy(model.hf), model.processor)
    answers(twin, own)


def test_weights_without_values_are_said_in_a_sentence(folder: Path, processor: Any) -> None:
    hf = loaded(folder).hf.to("meta")
    with pytest.raises(ModelError, match="on the device 'meta', where tensors have no values"):
        tasm.wrap(hf, processor)
    with pytest.raises(InputError, match=r"'meta' cannot be used here: tensors on it have no"):
        tasm.load_model(str(folder), device="meta")


def test_dtypes_and_devices_as_torch_has_them(folder: Path) -> None:
    model = tasm.load_model(str(folder), dtype=torch.bfloat16, device=torch.device("cpu"))
    assert model.backbone.dtype == torch.bfloat16
    for settings, sentence in (
        ({"dtype": "float23"}, "Unknown dtype 'float23'.*Did you mean 'float32'"),
        ({"dtype": torch.int8}, "Unknown dtype int8. Expected auto, float32"),
        ({"dtype": None}, "Unknown dtype None"),
        ({"device": "gpu"}, "The device 'gpu' cannot be used here"),
        ({"device": None}, "The device None cannot be used here"),
    ):
        with pytest.raises(InputError, match=sentence):
            tasm.load_model(str(folder), **settings)
    for name in ("", "  ", 5, None):
        with pytest.raises(InputError, match="expected a folder, a hub name"):
            tasm.load_model(name)


def test_running_weights_survive_copies(folder: Path) -> None:
    hf = loaded(folder).hf
    twin = copy.deepcopy(hf)
    guard = twin.get_decoder().tasm_guard
    assert not guard.is_changed
    no_grad(twin)
    assert guard.is_changed and not hf.get_decoder().tasm_guard.is_changed
    assert RunningWeights(twin).digests().exact != RunningWeights(hf).digests().exact
