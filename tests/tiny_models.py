"""Tiny random models of every family, made in memory from configurations; no processors, no files.

```python
tiny = tiny_model("qwen2_vl")
first = tiny.turn(seed=1)                     # ids and image tensors of one demonstration
whole = tiny.inputs([first, second, query])   # what an ordinary forward of the whole prompt takes
```
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

VOCABULARY = 200
IMAGE, VIDEO, BEFORE, AFTER = 190, 191, 192, 193
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}
PINPOINTS = [[28, 56], [56, 28], [56, 56]]
GEMMA = {
    **TEXT,
    "num_hidden_layers": 4,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 24,
}


class FamilyMissing(Exception):
    """The installed transformers does not have this family."""


@dataclass
class Turn:
    """One demonstration or query: token ids, and image tensors that can be concatenated."""

    ids: list[int]
    images: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Tiny:
    """A tiny model and what its images look like."""

    family: str
    model: Any
    tokens_per_image: int
    image: Callable[[torch.Generator], dict[str, Tensor]] | None
    images_per_turn: int = 1
    joined_along: int = 0

    def turn(self, seed: int, words: int = 6) -> Turn:
        """Random text around the family's images."""
        generator = torch.Generator().manual_seed(seed)

        def text(count: int) -> list[int]:
            return torch.randint(3, 180, (count,), generator=generator).tolist()

        ids, images = text(words), []
        if self.image is not None:
            for _ in range(self.images_per_turn):
                ids += [BEFORE, *[IMAGE] * self.tokens_per_image, AFTER]
                images.append(self.image(generator))
            ids += text(words // 2)
        return Turn(ids, self._join(images))

    def _join(self, images: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {
            name: torch.cat([image[name] for image in images], self.joined_along)
            for name in (images[0] if images else {})
        }

    def inputs(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        """Return the model's arguments for these turns as one prompt."""
        ids = torch.tensor([[token for turn in turns for token in turn.ids]])
        inputs = {"input_ids": ids, **self._join([turn.images for turn in turns if turn.images])}
        return {**inputs, **self._token_types(ids)}

    def batch(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        """Return the arguments for a left-padded batch with one turn a row."""
        width = max(len(turn.ids) for turn in turns)
        ids = torch.tensor([[0] * (width - len(turn.ids)) + turn.ids for turn in turns])
        mask = torch.tensor([[0] * (width - len(turn.ids)) + [1] * len(turn.ids) for turn in turns])
        images = [turn.images for turn in turns if turn.images]
        joined = (
            {name: torch.cat([image[name] for image in images]) for name in images[0]}
            if images
            else {}
        )
        return {"input_ids": ids, "attention_mask": mask, **joined, **self._token_types(ids)}

    def _token_types(self, ids: Tensor) -> dict[str, Tensor]:
        accepted = inspect.signature(self.model.forward).parameters
        kinds = (ids == IMAGE).long()
        names = [name for name in ("token_type_ids", "mm_token_type_ids") if name in accepted]
        return dict.fromkeys(names, kinds) if self.image is not None else {}


def _pixels(*shape: int) -> Callable[[torch.Generator], Tensor]:
    return lambda generator: torch.randn(*shape, generator=generator)


def _plain(*shape: int) -> Callable[[torch.Generator], dict[str, Tensor]]:
    make = _pixels(*shape)
    return lambda generator: {"pixel_values": make(generator)}


def _grid(patch: int, frames: int = 2) -> Callable[[torch.Generator], dict[str, Tensor]]:
    make = _pixels(24, 3 * frames * patch * patch)
    return lambda generator: {
        "pixel_values": make(generator),
        "image_grid_thw": torch.tensor([[1, 4, 6]]),
    }


def _sized(size: tuple[int, int], *shape: int) -> Callable[[torch.Generator], dict[str, Tensor]]:
    make = _pixels(*shape)
    return lambda generator: {
        "pixel_values": make(generator),
        "image_sizes": torch.tensor([size]),
    }


def _tiled(generator: torch.Generator) -> dict[str, Tensor]:
    return {
        "pixel_values": torch.randn(1, 1, 3, 28, 28, generator=generator),
        "pixel_attention_mask": torch.ones(1, 1, 28, 28, dtype=torch.long),
    }


def _several(generator: torch.Generator) -> dict[str, Tensor]:
    # Two images in every turn, because LLaVA-OneVision lays out a lone image otherwise.
    return {
        "pixel_values": torch.randn(2, 1, 3, 28, 28, generator=generator),
        "image_sizes": torch.tensor([[28, 28], [28, 28]]),
        "batch_num_images": torch.tensor([2]),
    }


def _mrope(section: list[int], **more: Any) -> dict[str, Any]:
    scaling = {"rope_type": "default", "mrope_section": section, "rope_theta": 10000.0, **more}
    return {**TEXT, "rope_theta": 10000.0, "rope_scaling": scaling}


_TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": BEFORE,
    "vision_end_token_id": AFTER,
}
_CLIP = {"model_type": "clip_vision_model", "projection_dim": 32, **SMALL, "num_hidden_layers": 3}
_SIGLIP = {"model_type": "siglip_vision_model", "vision_use_head": False, **SMALL}


def _qwen_vision(patch: int, **more: Any) -> dict[str, Any]:
    merged = {"spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3}
    return {"depth": 2, "num_heads": 2, "patch_size": patch, **merged, **more}


def _recipes() -> dict[str, tuple[str, dict[str, Any], dict[str, Any]]]:
    """Family -> class stem, configuration, and what `Tiny` needs to know."""
    llama = {"model_type": "llama", **TEXT}
    llava = {
        "vision_config": _CLIP,
        "text_config": llama,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "image_token_index": IMAGE,
    }
    anyres = {"tokens_per_image": 36, "image": _sized((28, 28), 1, 3, 3, 28, 28)}
    tiled = {"tokens_per_image": 4, "image": _tiled, "joined_along": 1}
    newer = {"hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 64}
    return {
        "qwen2_vl": (
            "Qwen2VL",
            {
                "text_config": _mrope([2, 3, 3]),
                "vision_config": _qwen_vision(14, embed_dim=32, hidden_size=64, mlp_ratio=2),
                **_TOKENS,
            },
            {"tokens_per_image": 6, "image": _grid(14)},
        ),
        "qwen2_5_vl": (
            "Qwen2_5_VL",
            {
                "text_config": _mrope([2, 3, 3]),
                "vision_config": _qwen_vision(
                    14, window_size=56, fullatt_block_indexes=[1], **newer
                ),
                **_TOKENS,
            },
            {"tokens_per_image": 6, "image": _grid(14)},
        ),
        "qwen3_vl": (
            "Qwen3VL",
            {
                "text_config": {**_mrope([4, 2, 2], mrope_interleaved=True), "head_dim": 16},
                "vision_config": _qwen_vision(
                    16, num_position_embeddings=64, deepstack_visual_indexes=[0, 1], **newer
                ),
                **_TOKENS,
            },
            {"tokens_per_image": 6, "image": _grid(16)},
        ),
        "llava": (
            "Llava",
            {**llava, "image_seq_length": 16},
            {"tokens_per_image": 16, "image": _plain(1, 3, 28, 28)},
        ),
        "llava_next": (
            "LlavaNext",
            {
                **llava,
                "text_config": {"model_type": "mistral", **TEXT, "sliding_window": None},
                "image_grid_pinpoints": PINPOINTS,
            },
            anyres,
        ),
        "llava_next_video": (
            "LlavaNextVideo",
            {**llava, "image_grid_pinpoints": PINPOINTS, "video_token_index": VIDEO},
            anyres,
        ),
        "llava_onevision": (
            "LlavaOnevision",
            {
                "vision_config": _SIGLIP,
                "text_config": {"model_type": "qwen2", **TEXT},
                "vision_feature_layer": -1,
                "vision_feature_select_strategy": "full",
                "image_grid_pinpoints": PINPOINTS,
                "image_token_index": IMAGE,
                "video_token_index": VIDEO,
                "vision_aspect_ratio": "anyres_max_9",
            },
            {"tokens_per_image": 34, "image": _several},
        ),
        "idefics3": (
            "Idefics3",
            {
                "vision_config": SMALL,
                "text_config": llama,
                "image_token_id": IMAGE,
                "scale_factor": 2,
            },
            tiled,
        ),
        "smolvlm": (
            "SmolVLM",
            {
                "vision_config": SMALL,
                "text_config": llama,
                "image_token_id": IMAGE,
                "scale_factor": 2,
            },
            tiled,
        ),
        "internvl": (
            "InternVL",
            {
                "vision_config": {
                    **SMALL,
                    "image_size": [28, 28],
                    "patch_size": [7, 7],
                    "use_absolute_position_embeddings": True,
                },
                "text_config": {"model_type": "qwen2", **TEXT},
                "image_token_id": IMAGE,
                "image_seq_length": 4,
                "downsample_ratio": 0.5,
                "vision_feature_layer": -1,
            },
            {"tokens_per_image": 4, "image": _plain(1, 3, 28, 28)},
        ),
        "gemma3": (
            "Gemma3",
            {
                "vision_config": _SIGLIP,
                "text_config": {
                    **GEMMA,
                    "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
                },
                "mm_tokens_per_image": 4,
                "boi_token_index": BEFORE,
                "eoi_token_index": AFTER,
                "image_token_index": IMAGE,
            },
            {"tokens_per_image": 4, "image": _plain(1, 3, 28, 28)},
        ),
        "mistral3": (
            "Mistral3",
            {
                "vision_config": {
                    **SMALL,
                    "model_type": "pixtral",
                    "head_dim": 16,
                    "image_size": 56,
                },
                "text_config": {
                    "model_type": "mistral",
                    **TEXT,
                    "head_dim": 16,
                    "sliding_window": None,
                },
                "image_token_index": IMAGE,
                "spatial_merge_size": 2,
                "vision_feature_layer": -1,
            },
            {"tokens_per_image": 6, "image": _sized((28, 42), 1, 3, 28, 42)},
        ),
        "glm4v": (
            "Glm4v",
            {
                "text_config": {
                    **_mrope([1, 1, 2], partial_rotary_factor=0.5),
                    "partial_rotary_factor": 0.5,
                },
                "vision_config": _qwen_vision(14, image_size=56, **newer),
                **{name.replace("vision", "image"): token for name, token in _TOKENS.items()},
                "video_start_token_id": 194,
                "video_end_token_id": 195,
            },
            {"tokens_per_image": 6, "image": _grid(14)},
        ),
        "llama": ("Llama", TEXT, {}),
        "qwen2": ("Qwen2", TEXT, {}),
        "qwen3": ("Qwen3", {**TEXT, "head_dim": 16}, {}),
        "gemma2": (
            "Gemma2",
            {
                **GEMMA,
                "attn_logit_softcapping": 20.0,
                "final_logit_softcapping": 10.0,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
            },
            {},
        ),
        "cohere": ("Cohere", {**TEXT, "logit_scale": 0.25}, {}),
        "granite": ("Granite", {**TEXT, "logits_scaling": 4.0}, {}),
        "gpt_oss": (
            "GptOss",
            {
                **TEXT,
                "head_dim": 16,
                "num_local_experts": 2,
                "num_experts_per_tok": 1,
                "sliding_window": 24,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
                "rope_scaling": {"rope_type": "default", "rope_theta": 10000.0},
            },
            {},
        ),
        "qwen3_5": (
            "Qwen3_5",
            {
                **TEXT,
                "num_hidden_layers": 4,
                "head_dim": 16,
                "linear_num_value_heads": 4,
                "linear_num_key_heads": 2,
                "linear_key_head_dim": 16,
                "linear_value_head_dim": 16,
                "layer_types": ["linear_attention"] * 3 + ["full_attention"],
            },
            {},
        ),
    }


_SCALED_LOGITS = ("cohere", "granite")  # asked for by name: their attention is Llama's
_TEXT_ONLY = ("llama", "qwen2", "qwen3", "gemma2", "gpt_oss", "qwen3_5", *_SCALED_LOGITS)
FAMILIES = tuple(name for name in _recipes() if name not in _SCALED_LOGITS)
IMAGE_FAMILIES = tuple(name for name in FAMILIES if name not in _TEXT_ONLY)


def tiny_model(family: str, *, seed: int = 0, **changes: Any) -> Tiny:
    """Return a tiny random model in float32; `changes` go into its text configuration.

    Raises FamilyMissing where the installed transformers does not have the family.
    """
    import transformers

    stem, settings, about = _recipes()[family]
    is_text = family in _TEXT_ONLY
    model_name = stem + ("ForCausalLM" if is_text else "ForConditionalGeneration")
    config_name = stem + ("TextConfig" if family == "qwen3_5" else "Config")
    if not hasattr(transformers, model_name) or not hasattr(transformers, config_name):
        raise FamilyMissing(f"transformers {transformers.__version__} has no {model_name}")
    if is_text:
        settings = {**settings, **changes}
    else:
        settings = {**settings, "text_config": {**settings["text_config"], **changes}}
        settings["tie_word_embeddings"] = False
    config = getattr(transformers, config_name)(**settings)
    torch.manual_seed(seed)
    model = getattr(transformers, model_name)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Larger than the usual start, so that tokens differ and attention is not flat.
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.08)
            if name.endswith("sinks"):
                parameter.normal_(0.0, 1.0)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return Tiny(
        family, model, about.get("tokens_per_image", 0), about.get("image"), **_options(about)
    )


def _options(about: dict[str, Any]) -> dict[str, Any]:
    return {name: about[name] for name in ("images_per_turn", "joined_along") if name in about}
