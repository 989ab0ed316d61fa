"""A model whose layers lie on several devices, or on disk: the answers are those of one device."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import tasm
from tasm.backbone.checkpoint.random_models import random_model
from tests.compress.tiny_backbone import TinyBackbone, build_tiny, logits_after
from tests.devices.elsewhere import BackboneElsewhere, assert_same_layer, elsewhere
from tests.pretended_device import Pretended, pretending, values
from tests.tiny_models import tiny_model

WORDS = [20, 21, 22]
SECOND = "pretended:1"


# ------------------------------------------------------------------ offloaded by accelerate


def offloaded(hf: Any, folder: Path) -> Any:
    """Weights on the CPU, brought to each module when it runs."""
    return pytest.importorskip("accelerate").cpu_offload(hf, execution_device=torch.device("cpu"))


def on_disk(hf: Any, folder: Path) -> Any:
    """All weights in files, mapped when a module runs."""
    return pytest.importorskip("accelerate").disk_offload(
        hf, str(folder), execution_device=torch.device("cpu")
    )


def mixed(hf: Any, folder: Path) -> Any:
    """What a `device_map` makes of a model that does not fit: later layers on disk."""
    accelerate = pytest.importorskip("accelerate")
    layers = "model.language_model.layers"
    count = hf.config.get_text_config().num_hidden_layers
    places = {f"{layers}.{number}": "disk" if number >= count // 2 else "cpu"
              for number in range(count)}  # fmt: skip
    places |= {
        "model.visual": "cpu",
        "model.language_model.embed_tokens": "cpu",
        "model.language_model.norm": "cpu",
        "model.language_model.rotary_emb": "cpu",
        "lm_head": "cpu",
    }
    return accelerate.dispatch_model(
        hf, places, main_device="cpu", offload_dir=str(folder), force_hooks=True
    )


def go_all_the_way(hf: Any, processor: Any, folder: Path) -> tuple[Any, list[str]]:
    """A memory built, and every answer on the way: built, loaded, a batch, retrieval, streamed."""
    model = tasm.wrap(hf, processor)
    rows = [
        {"images": [picture(number)], "question": "Which?", "answer": "ab"[number % 2]}
        for number in range(4)
    ]
    queries = [
        {"images": [picture(5)], "question": "Which?"},
        {"images": [picture(6)], "question": "Which one of them?"},
    ]
    built = tasm.build(model, rows, recipe="tasm", core="40%", bank="40%")
    built.save(folder / "m.tasm")
    loaded = tasm.load(folder / "m.tasm")
    tried = tasm.build(model, rows, recipe="emloc", core="50%")
    streamed = tasm.build(
        model, rows, recipe="tasm", core="40", bank="20", mode="streaming", chunk_tokens=60
    )
    one: dict[str, Any] = {"max_new_tokens": 3, **queries[0]}
    texts = [model.ask(memory, **one).text for memory in (built, loaded, tried, streamed)]
    texts += [model.ask(loaded, gate="always", bank_on=where, **one).text
              for where in ("device", "host")]  # fmt: skip
    texts += [
        answer.text for answer in model.ask_all(loaded, queries, max_new_tokens=3, batch_size=2)
    ]
    return built, texts


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (56, 56), (number * 40 % 256, 90, 200 - number * 30))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[str]]:
    return go_all_the_way(*random_model("qwen2_vl-tiny"), tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("way", [offloaded, on_disk, mixed])
def test_offloaded_layers(
    way: Callable[[Any, Path], Any], plain: tuple[Any, list[str]], tmp_path: Path
) -> None:
    expected, texts = plain
    hf, processor = random_model("qwen2_vl-tiny")
    (tmp_path / "weights").mkdir()
    built, others = go_all_the_way(way(hf, tmp_path / "weights"), processor, tmp_path)
    assert others == texts
    for found, wanted in zip(built.core, expected.core, strict=True):
        assert_same_layer(found, wanted)
    assert built.identity.differences(expected.identity) == []


# ------------------------------------------------------------------ two devices in one model


def spread(there: BackboneElsewhere) -> BackboneElsewhere:
    """The later half of the layers moves to a second device, and what they are given follows."""
    layers = list(there.decoder.layers)
    for layer in layers[len(layers) // 2 :]:
        for module in layer.modules():
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is not None:
                        made: Any = Pretended(values(tensor), torch.device(SECOND))
                        is_weight = isinstance(tensor, nn.Parameter)
                        held[name] = nn.Parameter(made, False) if is_weight else made
        layer.register_forward_pre_hook(bring(SECOND), with_kwargs=True)
    there.decoder.norm.register_forward_pre_hook(bring("pretended:0"), with_kwargs=True)
    return there


def bring(device: str) -> Callable[..., Any]:
    """A hook as accelerate's: every tensor among the arguments goes to the module's device."""

    def there(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device)
        if isinstance(value, tuple | list):
            return type(value)(there(one) for one in value)
        return value

    def hook(module: Any, args: Any, kwargs: Any) -> Any:
        return there(args), {name: there(value) for name, value in kwargs.items()}

    return hook


@pytest.fixture(scope="module")
def here() -> TinyBackbone:
    return TinyBackbone(tiny_model("qwen2_vl"))


@pytest.fixture(scope="module")
def there() -> Iterator[BackboneElsewhere]:
    with pretending():
        return spread(elsewhere())


CASES: list[dict[str, Any]] = [
    {"recipe": "tasm"},
    {"recipe": "tasm", "mode": "streaming", "chunk_tokens": 45},
    {"recipe": "compact"},
    {"recipe": "tasm-paper"},
    {"recipe": "snapkv"},
    {"recipe": "fastv"},
    {"recipe": "emloc"},
    {"recipe": "kvzip"},
]


@pytest.mark.parametrize("given", CASES, ids=lambda given: "-".join(map(str, given.values())))
def test_layers_on_two_devices(
    given: dict[str, Any], here: TinyBackbone, there: BackboneElsewhere, tmp_path: Path
) -> None:
    expected = build_tiny(here, 4, **given)
    wanted = logits_after(here, expected.cache(), WORDS)
    with pretending():
        built = build_tiny(there, 4, **given)
        found = [logits_after(there, built.cache(), WORDS)]
        built.save(tmp_path / "m.tasm")
        loaded = tasm.load(tmp_path / "m.tasm")
        found.append(logits_after(there, loaded.cache(), WORDS))
        devices = {str(layer.keys.device) for layer in built.core if layer is not None}
    assert devices == {"pretended:0", "pretended:1"}
    for layer, other in zip(built.core, expected.core, strict=True):
        assert_same_layer(layer, other)
    for logits in found:
        torch.testing.assert_close(values(logits), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("bank_on", ["device", "host"])
def test_retrieval_on_two_devices(
    bank_on: Any, here: TinyBackbone, there: BackboneElsewhere
) -> None:
    given: dict[str, Any] = {"gate": "always", "bank_on": bank_on}
    wanted = logits_after(here, build_tiny(here, 4, core="40%", bank="40%").cache(**given), WORDS)
    with pretending():
        memory = build_tiny(there, 4, core="40%", bank="40%")
        found = logits_after(there, memory.cache(**given), WORDS)
    torch.testing.assert_close(values(found), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["gemma2", "llama"])
def test_rows_of_two_lengths_on_two_devices(family: str) -> None:
    """Layers with a window compare tokens' indices, and a bank is asked by each row's last token:
    both are known where the decoder begins."""

    def answers(where: BackboneElsewhere) -> Tensor:
        mask = torch.tensor([[0, 0, 1], [1, 1, 1]]).to("pretended")
        ids = torch.tensor([WORDS, WORDS]).to("pretended")
        cache = build_tiny(where, 4, core="40%", bank="40%").cache(gate="always")
        with torch.inference_mode():
            output = where.hf(input_ids=ids, attention_mask=mask, past_key_values=cache)
        return values(output.logits[:, -1])

    with pretending():
        expected = answers(elsewhere(family))
        found = answers(spread(elsewhere(family)))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
