"""The trained model as an ordinary Hugging Face folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tasm.suites.pictures import SIDE
from training import net
from training import tokenizer as tokens


def plain_config(vocabulary: int, shape: net.Shape) -> dict[str, Any]:
    """config.json by hand: transformers 4.57 reads rope_scaling, 5.x either spelling."""
    ids = tokens.special_ids()
    full = net.config(vocabulary, ids, shape).to_dict()
    text, vision = full["text_config"], full["vision_config"]
    wanted = (
        "vocab_size hidden_size num_hidden_layers num_attention_heads num_key_value_heads "
        "intermediate_size max_position_embeddings rms_norm_eps hidden_act attention_dropout "
        "use_cache initializer_range"
    ).split()
    return {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "dtype": "bfloat16",
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": True,
        "eos_token_id": ids["<|end|>"],
        "pad_token_id": ids["<|pad|>"],
        "text_config": {
            "model_type": "qwen2_vl_text",
            **{key: text[key] for key in wanted},
            "rope_theta": net.THETA,
            "rope_scaling": {
                "type": "mrope",
                "rope_type": "default",
                "mrope_section": shape.sections,
            },
            "bos_token_id": None,
            "eos_token_id": ids["<|end|>"],
            "pad_token_id": ids["<|pad|>"],
            "tie_word_embeddings": True,
        },
        "vision_config": {
            "model_type": "qwen2_vl",
            **{
                key: vision[key]
                for key in (
                    "depth embed_dim hidden_size hidden_act mlp_ratio num_heads in_channels "
                    "patch_size spatial_merge_size temporal_patch_size initializer_range"
                ).split()
            },
        },
    }


def export(model: Any, folder: Path) -> None:
    """Weights in bfloat16, settings, tokenizer, image processor and chat template."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    ids, text = tokens.special_ids(), model.config.text_config
    state = {
        name: value.detach().to(torch.bfloat16).contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"
    }
    state = {_old_name(name): value for name, value in state.items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    _write(folder / "config.json", plain_config(text.vocab_size, net.shape_of(text)))
    _write(
        folder / "generation_config.json",
        {
            "do_sample": False,
            "eos_token_id": ids["<|end|>"],
            "pad_token_id": ids["<|pad|>"],
            "max_new_tokens": 8,
        },
    )
    tokenizer = tokens.tokenizer()
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "<|pad|>",
            "eos_token": "<|end|>",
            "bos_token": None,
            "unk_token": None,
            "model_max_length": 16384,
            "padding_side": "left",
            "clean_up_tokenization_spaces": False,
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "chat_template": tokens.TEMPLATE,
        },
    )
    (folder / "chat_template.jinja").write_text(tokens.TEMPLATE)
    tokens.write_processor(folder, SIDE, net.PATCH, net.MERGE)


def _old_name(name: str) -> str:
    """The hub's names, which every version of transformers maps to its own."""
    name = name.replace("model.language_model.", "model.", 1)
    return name.replace("model.visual.", "visual.", 1)


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n")
