"""Families that nobody listed: they work where they can, else say what is missing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tasm.backbone import FAMILIES, MemoryCache, load_backbone, set_attention
from tasm.errors import ModelError
from tests.backbone.conftest import demonstrations_for, queries_for
from tests.tiny_folders import TEXT, save_model, tiny_folder

EXPERTS = {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2}
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral": ("Mistral", {"sliding_window": 16}),
    "olmo2": ("Olmo2", {"pad_token_id": 0}),
    "gpt_oss": ("GptOss", {**EXPERTS, "sliding_window": 16}),
    "qwen3_moe": (
        "Qwen3Moe",
        {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ),
}
LATENT = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
}


def text_folder(folder: Path, class_name: str, settings: dict[str, Any]) -> Path:
    tiny_folder("qwen2", folder)
    config = getattr(transformers, class_name + "Config")(**{**TEXT, "vocab_size": 512, **settings})
    save_model(folder, class_name + "ForCausalLM", config, seed=0)
    return folder


def vipllava_folder(folder: Path) -> Path:
    tiny_folder("llava", folder)
    old = json.loads((folder / "config.json").read_text())
    config = transformers.VipLlavaConfig(
        vision_config=old["vision_config"],
        text_config=old["text_config"],
        image_token_index=old.get("image_token_index", old.get("image_token_id")),
        vision_feature_layers=[-2, -1],
        tie_word_embeddings=False,
    )
    save_model(folder, "VipLlavaForConditionalGeneration", config, seed=0)
    return folder


def qwen3_5_folder(folder: Path) -> Path:
    tiny_folder("qwen3_vl", folder)
    old = json.loads((folder / "config.json").read_text())
    vision = old["vision_config"]
    linear = {f"linear_{part}_head_dim": 16 for part in ("key", "value")}
    linear |= {f"linear_num_{part}_heads": 2 for part in ("key", "value")}
    text = {
        **TEXT,
        **linear,
        "vocab_size": old["text_config"]["vocab_size"],
        "head_dim": 16,
        "num_hidden_layers": 4,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [2, 1, 1],
            "mrope_interleaved": True,
            "partial_rotary_factor": 0.5,
        },
    }
    dropped = ("model_type", "deepstack_visual_indexes")
    config = transformers.Qwen3_5Config(
        text_config=text,
        vision_config={k: v for k, v in vision.items() if k not in dropped},
        **{name: value for name, value in old.items() if name.endswith("_token_id") and value},
    )
    save_model(folder, "Qwen3_5ForConditionalGeneration", config, seed=0)
    return folder


def assert_exact(folder: Path, like: str) -> None:
    backbone = load_backbone(folder)
    assert backbone.family.name not in FAMILIES
    demonstrations, queries = demonstrations_for(like), queries_for(like)
    transcript = backbone.transcript(demonstrations)
    cache = MemoryCache.empty(backbone.hf.config)
    for first in range(len(transcript.spans)):
        backbone.encode(transcript.chunk(first, first + 1), cache)
        cache.commit()
    for query in queries:
        whole = backbone.full_inputs(demonstrations, query, layout=transcript.layout)
        set_attention(backbone.hf, "eager")
        with torch.inference_mode():
            expected = backbone.hf(**whole).logits[0, -1]
        set_attention(backbone.hf, "tasm")
        output = backbone.hf.generate(
            **backbone.query_inputs([query], layout=transcript.layout),
            past_key_values=cache.fork(),
            max_new_tokens=1,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
        assert (output.logits[0][0] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_other_text_decoders_work(tmp_path: Path, name: str) -> None:
    assert_exact(text_folder(tmp_path / name, *DECODERS[name]), "llama")


@pytest.mark.parametrize(
    ("class_name", "folder"),
    [("VipLlavaConfig", vipllava_folder), ("Qwen3_5Config", qwen3_5_folder)],
)
def test_other_image_models_work(
    tmp_path: Path, class_name: str, folder: Callable[[Path], Path]
) -> None:
    if not hasattr(transformers, class_name):
        pytest.skip(f"transformers {transformers.__version__} has no {class_name}")
    assert_exact(folder(tmp_path / "model"), "qwen2_vl")


def test_latent_attention_is_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = text_folder(tmp_path / "deepseek", "DeepseekV3", LATENT)
    with pytest.raises(ModelError, match="k_proj"):
        load_backbone(folder)
