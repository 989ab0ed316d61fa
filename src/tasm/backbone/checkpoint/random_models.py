"""Random models of a named geometry, made in memory: for measuring speed without a checkpoint.

Their answers are noise. The same name gives the same weights on the same version of torch.
Importing this module imports neither torch nor transformers.
"""

from dataclasses import dataclass
from typing import Any

from tasm.backbone.hugging_face import HfTokenizer
from tasm.errors import ModelError, did_you_mean

_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class RandomModel:
    """A geometry of the Qwen2-VL kind; an image gets about `image_side`² pixels."""

    hidden_size: int
    intermediate_size: int
    layers: int
    query_heads: int
    kv_heads: int
    vocabulary: int
    vision_size: int
    vision_layers: int
    vision_heads: int
    image_side: int
    max_positions: int = 32768
    title: str = ""


_PATCH, _MERGE, _LONG = 14, 2, 1 << 20
RANDOM_MODELS: dict[str, RandomModel] = {
    # Grouped-query attention, 64 tokens for a square image.
    "qwen2_vl-0.15b": RandomModel(
        *(768, 3072, 16, 12, 4, 8192, 256, 4, 4, 224),
        title="Random weights of 150 million parameters, made in memory, for measuring speed",
    ),
    # The decoder of Qwen2-0.5B, whose groups are large and heads few.
    "qwen2_vl-0.5b": RandomModel(
        *(896, 4864, 24, 14, 2, 32768, 384, 6, 6, 224), title="The same of 500 million parameters"
    ),
    # The decoder and the vision tower of Qwen2-VL-7B-Instruct: 15 GB in bfloat16.
    "qwen2_vl-7b": RandomModel(
        *(3584, 18944, 28, 28, 4, 152064, 1280, 32, 16, 224),
        title="The same of 7 billion, for a GPU",
    ),
    # Keys and values are the largest part, as they are in long contexts of large models.
    "qwen2_vl-deep": RandomModel(
        *(128, 128, 8, 2, 2, 512, 64, 1, 2, 56),
        max_positions=_LONG,
        title="Eight small layers whose keys and values outweigh all else, for counting bytes",
    ),
    "qwen2_vl-shallow": RandomModel(
        *(128, 128, 4, 2, 2, 512, 64, 1, 2, 56),
        max_positions=_LONG,
        title="The same with four, for counting many builds",
    ),
    # 4 tokens for a square image: everything runs in seconds.
    "qwen2_vl-tiny": RandomModel(
        *(128, 256, 4, 4, 2, 512, 64, 1, 2, 56),
        max_positions=_LONG,
        title="The same of under a million, for trying what runs",
    ),
}
"""Numbers in the order of `RandomModel`'s fields."""


def random_model(name: str, *, device: str = "cpu", dtype: str = "float32") -> tuple[Any, Any]:
    """Return a random model of `RANDOM_MODELS` and its processor, made where and as it will run.

    ```python
    hf, processor = random_model("qwen2_vl-0.15b")
    ```

    Raises `ModelError` for an unknown name.
    """
    if name not in RANDOM_MODELS:
        raise ModelError(
            f"There is no random model {name!r}. Expected one of "
            f"{', '.join(RANDOM_MODELS)}.{did_you_mean(name, RANDOM_MODELS)}"
        )
    geometry = RANDOM_MODELS[name]
    tokenizer = _tokenizer()
    return _model(geometry, tokenizer, device, dtype), _processor(geometry, tokenizer)


def _model(geometry: RandomModel, tokenizer: HfTokenizer, device: str, dtype: str) -> Any:
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    eighth = geometry.hidden_size // geometry.query_heads // 8
    section = [2 * eighth, eighth, eighth]
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": geometry.vocabulary,
            "hidden_size": geometry.hidden_size,
            "intermediate_size": geometry.intermediate_size,
            "num_hidden_layers": geometry.layers,
            "num_attention_heads": geometry.query_heads,
            "num_key_value_heads": geometry.kv_heads,
            "max_position_embeddings": geometry.max_positions,
            "rope_theta": 1_000_000.0,
            "rope_scaling": {"rope_type": "default", "mrope_section": section},
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": geometry.vision_layers,
            "embed_dim": geometry.vision_size,
            "hidden_size": geometry.hidden_size,
            "num_heads": geometry.vision_heads,
            "mlp_ratio": 4,
            "patch_size": _PATCH,
            "spatial_merge_size": _MERGE,
            "temporal_patch_size": 2,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        model = Qwen2VLForConditionalGeneration._from_config(config, dtype=getattr(torch, dtype))
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model.eval()


def _tokenizer() -> Any:
    """One token a byte, and the special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate((*_SPECIAL, *alphabet))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in _SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


def _processor(geometry: RandomModel, tokenizer: HfTokenizer) -> Any:
    import transformers

    from tasm.backbone.checkpoint.processors import without_video

    # Room around the area, so that square images of any size round to the same number of tokens.
    area = geometry.image_side**2
    # Without torchvision: the class of its own that newer versions have, older ones' plain class.
    plain = getattr(transformers, "Qwen2VLImageProcessorPil", None)
    image_processor = (plain or transformers.Qwen2VLImageProcessor)(
        min_pixels=int(0.9 * area),
        max_pixels=int(1.2 * area),
        patch_size=_PATCH,
        merge_size=_MERGE,
        temporal_patch_size=2,
    )
    return without_video(transformers.Qwen2VLProcessor)(
        image_processor=image_processor, tokenizer=tokenizer, chat_template=_TEMPLATE
    )
