"""Every token that the template puts after an answer ends it, and the configurations' own do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import GenerationConfig

import tasm
from tasm.backbone import Backbone, load_backbone
from tasm.backbone.ends import answer_ends, end_disagreement, end_tokens
from tasm.backbone.loading import reference_folder
from tests.tiny_folders import IMAGE_FAMILIES, TEXT_FAMILIES, tiny_folder

pytestmark = pytest.mark.matrix

# What each family's template writes right after an answer; LLaVA's plain one writes no token.
ENDS = {
    "qwen2_vl": "<|im_end|>",
    "qwen2_5_vl": "<|im_end|>",
    "qwen3_vl": "<|im_end|>",
    "llava": None,
    "llava_next": "</s>",
    "llava_next_video": None,
    "llava_onevision": "<|im_end|>",
    "idefics3": "<end_of_utterance>",
    "smolvlm": "<end_of_utterance>",
    "internvl": "<|im_end|>",
    "gemma3": "<end_of_turn>",
    "mistral3": "</s>",
    "glm4v": "<|user|>",
    "llama": "<|eot_id|>",
    "qwen2": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "gemma2": "<end_of_turn>",
}


@pytest.fixture(scope="module")
def backbone_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Backbone]:
    return lambda family: load_backbone(tiny_folder(family, tmp_path_factory.mktemp(family)))


@pytest.mark.parametrize("family", IMAGE_FAMILIES + TEXT_FAMILIES)
def test_the_templates_end_of_turn(backbone_of: Callable[[str], Backbone], family: str) -> None:
    backbone = backbone_of(family)
    backbone.hf.generation_config.eos_token_id = None
    for config in (backbone.hf.config, backbone.hf.config.get_text_config()):
        if getattr(config, "eos_token_id", None) is not None:
            config.eos_token_id = None
    names = backbone.tokenizer.convert_ids_to_tokens(list(backbone.template_ends))
    assert next(iter(names), None) == ENDS[family]
    own = backbone.tokenizer.eos_token_id
    assert set(answer_ends(backbone)) >= {*backbone.template_ends, *end_tokens(backbone.hf)}
    assert own is None or own in answer_ends(backbone)
    if ENDS[family] is None:
        assert end_disagreement(backbone) is None
        return
    assert f"ends an answer with {ENDS[family]!r}" in str(end_disagreement(backbone))
    backbone.hf.generation_config = GenerationConfig(eos_token_id=list(backbone.template_ends[:1]))
    assert end_disagreement(backbone) is None


def test_all_configurations_count(backbone_of: Callable[[str], Backbone]) -> None:
    backbone = backbone_of("qwen2_vl")
    backbone.hf.generation_config = GenerationConfig(eos_token_id=[7, 8])
    backbone.hf.config.text_config.eos_token_id = [8, 10]
    outer = SimpleNamespace(eos_token_id=9, get_text_config=backbone.hf.config.get_text_config)
    model = SimpleNamespace(generation_config=backbone.hf.generation_config, config=outer)
    assert end_tokens(model) == (7, 8, 9, 10)  # in transformers 4 one name sets both
    first = backbone.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert answer_ends(backbone)[0] == first
    backbone.hf.generation_config.eos_token_id = None
    backbone.hf.config.eos_token_id = backbone.hf.config.text_config.eos_token_id = None
    assert "configurations name none" in str(end_disagreement(backbone))


def test_where_nothing_ends_an_answer_it_is_said() -> None:
    config = SimpleNamespace(eos_token_id=None, get_text_config=lambda: None)
    backbone = SimpleNamespace(
        hf=SimpleNamespace(config=config),
        tokenizer=SimpleNamespace(eos_token_id=3),
        template_ends=(),
    )
    assert answer_ends(backbone) == (3,)
    assert end_disagreement(backbone) is None
    backbone.tokenizer.eos_token_id = None
    assert "Neither the chat template nor" in str(end_disagreement(backbone))


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference model as a merged fine-tune leaves it: with its base model's end token."""
    folder = tmp_path_factory.mktemp("merged") / "model"
    shutil.copytree(reference_folder(), folder)
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config["eos_token_id"] = config["text_config"]["eos_token_id"] = 0
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_answers_do_not_run_on(merged: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": f"Which is number {n}?", "answer": word} for n, word in enumerate("abcd")
    ]
    texts = []
    for name in ("reference", str(merged)):
        model = tasm.load_model(name)
        memory = tasm.build(model, tasm.read_demonstrations(rows), recipe="full")
        asked = [tasm.make_query(row["question"]) for row in rows]
        texts.append([one.token_ids for one in model.ask_all(memory, asked, max_new_tokens=8)])
    assert texts[0] == texts[1]
    assert all(len(ids) < 8 for ids in texts[0])


def test_doctor_and_verify_say_so(
    merged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tasm.cli.app import app

    model = tasm.load_model(str(merged))
    rows = tasm.read_demonstrations([{"question": "Which?", "answer": "a"}])
    tasm.build(model, rows, recipe="full").save(tmp_path / "one.tasm")

    def said(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            app([*arguments], prog_name="tasm")
        assert not left.value.code
        found = capsys.readouterr()
        return " ".join((found.out + found.err).split())

    sentence = "The chat template ends an answer with '<|end|>' (1)"
    assert sentence in said("doctor", "--model", str(merged), "--json")
    assert sentence in said("verify", str(tmp_path / "one.tasm"), "--model", str(merged))
    assert sentence not in said("doctor", "--model", "reference", "--json")
