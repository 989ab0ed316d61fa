# ruff: noqa: E501  (chat templates are kept as their families publish them)
"""Tiny random checkpoints of every family, saved as the family itself saves them.

Each folder holds config.json, model.safetensors, a tokenizer, an image processor's configuration and the
chat template (abridged from the family's published one, with its quirks kept: trimming, default system
prompts, beginning-of-sequence tokens, images before text). A folder is about a megabyte.

```python
folder = tiny_folder("qwen2_vl", tmp_path / "qwen2_vl")
```
"""

import json
from pathlib import Path
from typing import Any

CORPUS = [
    "What is in this picture? A red bird on a branch. Which digit is shown? The answer is seven.",
    "Name the colour of the square: blue, green, yellow, red, white or black.",
    "user assistant system model You are a helpful assistant. Please answer with one word.",
    "Look at the image and compare it with the first one. Is it the same? yes no maybe",
    "USER: ASSISTANT: User: Assistant: Picture 1: Be brief.\n\n one two three four five six seven eight",
    "zéro größer naïve 東京 ¿qué? 0123456789 ()[]{}<>!?;:,.-_'\"/\\",
]

CHATML_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

QWEN2_VL_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

QWEN3_VL_TEMPLATE = (
    "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' }}"
    "{%- if messages[0].content is string %}{{- messages[0].content }}"
    "{%- else %}{%- for content in messages[0].content %}{%- if 'text' in content %}{{- content.text }}{%- endif %}{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if message.role == 'user' %}{{- '<|im_start|>user\\n' }}"
    "{%- if message.content is string %}{{- message.content }}{%- else %}{%- for content in message.content %}"
    "{%- if content.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif 'text' in content %}{{- content.text }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|im_end|>\\n' }}"
    "{%- elif message.role == 'assistant' %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if message.content is string %}{{- message.content }}{%- else %}{%- for item in message.content %}"
    "{%- if 'text' in item %}{{- item.text }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

# All images first, then all text, each text followed by a space.
LLAVA_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}{% endfor %}"
    "{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)

LLAVA_NEXT_MISTRAL_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ '<<SYS>>\n' + message['content'][0]['text'] + '\n<</SYS>>\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ '[INST] ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}{{ ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'][0]['text'] + '</s> ' }}"
    "{% endif %}{% endfor %}"
)

LLAVA_ONEVISION_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + content['text'] }}{% endfor %}"
    "{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{% generation %}{{ '\n' + content['text'] }}{% endgeneration %}{% endfor %}"
    "{% endif %}{{'<|im_end|>'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

IDEFICS3_TEMPLATE = (
    "<|begin_of_text|>{% for message in messages %}{{message['role'].capitalize()}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)

SMOLVLM_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)

INTERNVL_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{'<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)

GEMMA3_TEMPLATE = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}"
    "{%- if messages[0]['content'] is string -%}{%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}"
    "{%- else -%}{%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}{%- endif -%}"
    "{%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first_user_prefix = '' -%}{%- set loop_messages = messages -%}{%- endif -%}"
    "{%- for message in loop_messages -%}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{%- endif -%}"
    "{%- if (message['role'] == 'assistant') -%}{%- set role = 'model' -%}{%- else -%}{%- set role = message['role'] -%}{%- endif -%}"
    "{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else '') }}"
    "{%- if message['content'] is string -%}{{ message['content'] | trim }}"
    "{%- elif message['content'] is iterable -%}{%- for item in message['content'] -%}"
    "{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}"
    "{%- else -%}{{ raise_exception('Invalid content type') }}{%- endif -%}{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)

GEMMA2_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)

MISTRAL3_TEMPLATE = (
    "{%- set default_system_message = 'You are a model of Mistral.' %}{{- bos_token }}"
    "{%- if messages[0]['role'] == 'system' %}{%- if messages[0]['content'] is string %}{%- set system_message = messages[0]['content'] %}"
    "{%- else %}{%- set system_message = messages[0]['content'][0]['text'] %}{%- endif %}{%- set loop_messages = messages[1:] %}"
    "{%- else %}{%- set system_message = default_system_message %}{%- set loop_messages = messages %}{%- endif %}"
    "{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}"
    "{%- for message in loop_messages %}{%- if message['role'] == 'user' %}"
    "{%- if message['content'] is string %}{{- '[INST]' + message['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST]' }}{%- for block in message['content'] %}"
    "{%- if block['type'] == 'text' %}{{- block['text'] }}{%- elif block['type'] in ['image', 'image_url'] %}{{- '[IMG]' }}"
    "{%- else %}{{- raise_exception('Only text and image blocks are supported in message content!') }}{%- endif %}{%- endfor %}{{- '[/INST]' }}{%- endif %}"
    "{%- elif message['role'] == 'assistant' %}{%- if message['content'] is string %}{{- message['content'] + eos_token }}"
    "{%- else %}{{- message['content'][0]['text'] + eos_token }}{%- endif %}"
    "{%- else %}{{- raise_exception('Only user, system and assistant roles are supported!') }}{%- endif %}{%- endfor %}"
)

# The assistant's content is printed as it is: a list of parts would print as a list.
GLM4V_TEMPLATE = (
    "[gMASK]<sop>\n{%- for msg in messages %}\n    {%- if msg.role == 'system' %}\n<|system|>\n{{ msg.content }}\n"
    "    {%- elif msg.role == 'user' %}\n<|user|>{{ '\\n' }}\n\n        {%- if msg.content is string %}\n{{ msg.content }}\n"
    "        {%- else %}\n            {%- for item in msg.content %}\n"
    "                {%- if item.type == 'image' or 'image' in item %}\n<|begin_of_image|><|image|><|end_of_image|>\n"
    "                {%- elif item.type == 'text' %}\n{{ item.text }}\n                {%- endif %}\n            {%- endfor %}\n        {%- endif %}\n"
    "    {%- elif msg.role == 'assistant' %}\n        {%- if msg.metadata %}\n<|assistant|>{{ msg.metadata }}\n{{ msg.content }}\n"
    "        {%- else %}\n<|assistant|>\n{{ msg.content }}\n        {%- endif %}\n    {%- endif %}\n{%- endfor %}\n"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

LLAMA3_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

QWEN2_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# The turn after the last question carries an empty thought; earlier turns do not.
QWEN3_TEMPLATE = (
    "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- set ns = namespace(last_query_index=0) %}{%- for message in messages %}{%- if message.role == 'user' %}{%- set ns.last_query_index = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for message in messages %}{%- if message.role == 'user' %}{{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- elif message.role == 'assistant' %}"
    "{%- if loop.index0 > ns.last_query_index %}{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + message.content.lstrip('\\n') }}"
    "{%- else %}{{- '<|im_start|>assistant\\n' + message.content }}{%- endif %}{{- '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
HALF = [0.5, 0.5, 0.5]
PINPOINTS = [[28, 56], [56, 28], [56, 56]]


def byte_level_tokenizer(special: list[str]) -> Any:
    """A byte-level BPE of about 400 tokens, as Qwen, Llama 3 and GLM have."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=special,
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def metaspace_tokenizer(special: list[str], *, bos: str | None, prefix: bool) -> Any:
    """A BPE with byte fallback over text whose spaces are ▁, as Llama 2, Mistral and Gemma have."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    pieces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(pieces + ([decoders.Strip(" ", 1, 0)] if prefix else []))
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=620, special_tokens=special + byte_tokens, show_progress=False
    )
    # Word by word, as SentencePiece does: no token reaches over a space.
    words = ["▁" + word for text in CORPUS for word in text.split(" ")]
    tokenizer.train_from_iterator(words, trainer)
    if bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, tokenizer.token_to_id(bos))],
        )
    return tokenizer


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")


def _save_tokenizer(
    folder: Path, tokenizer: Any, special: list[str], **settings: Any
) -> dict[str, int]:
    """Write tokenizer.json and tokenizer_config.json as a hub folder has them."""
    folder.mkdir(parents=True, exist_ok=True)
    model = json.loads(tokenizer.to_str())
    byte_tokens = {entry["content"] for entry in model["added_tokens"]} - set(special)
    model["added_tokens"] = [e for e in model["added_tokens"] if e["content"] not in byte_tokens]
    (folder / "tokenizer.json").write_text(json.dumps(model, ensure_ascii=False), encoding="utf-8")
    vocabulary = tokenizer.get_vocab()
    added = {
        str(vocabulary[token]): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for token in special
    }
    document = {
        "added_tokens_decoder": added,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
        **settings,
    }
    _write(folder / "tokenizer_config.json", document)
    return vocabulary


def save_model(folder: Path, class_name: str, config: Any, seed: int) -> None:
    """Write a random model of `config` into `folder`, in place of any that is there."""
    import torch
    import transformers

    torch.manual_seed(seed)
    model = getattr(transformers, class_name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Larger than the usual start, so that tokens differ and attention is not flat.
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.08)
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder, safe_serialization=True)


def _rope(section: list[int], **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "mrope_section": section, **more}


def _qwen(folder: Path, family: str, seed: int) -> None:
    import transformers

    special = [
        *CHATML_SPECIAL,
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ]
    vocabulary = _save_tokenizer(
        folder,
        byte_level_tokenizer(special),
        special,
        tokenizer_class="Qwen2Tokenizer",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        bos_token=None,
        unk_token=None,
    )
    template = QWEN3_VL_TEMPLATE if family == "qwen3_vl" else QWEN2_VL_TEMPLATE
    _write(folder / "chat_template.json", {"chat_template": template})
    class_name = {
        "qwen2_vl": "Qwen2VL",
        "qwen2_5_vl": "Qwen2_5_VL",
        "qwen3_vl": "Qwen3VL",
    }[family]
    patch = 16 if family == "qwen3_vl" else 14
    preprocessor = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": HALF if family == "qwen3_vl" else CLIP_MEAN,
        "image_std": HALF if family == "qwen3_vl" else CLIP_STD,
        "image_processor_type": "Qwen2VLImageProcessor",
        "merge_size": 2,
        "patch_size": patch,
        "temporal_patch_size": 2,
        "processor_class": (
            "Qwen2VLProcessor" if family == "qwen2_vl" else class_name + "Processor"
        ),
        "size": {"shortest_edge": (2 * patch) ** 2, "longest_edge": (8 * patch) ** 2},
    }
    _write(folder / "preprocessor_config.json", preprocessor)
    vision: dict[str, Any] = {
        "depth": 2,
        "num_heads": 2,
        "patch_size": patch,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "in_channels": 3,
    }
    if family == "qwen2_vl":
        vision |= {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    else:
        vision |= {"hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 64}
    if family == "qwen2_5_vl":
        vision |= {"window_size": 56, "fullatt_block_indexes": [1]}
    if family == "qwen3_vl":
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    text: dict[str, Any] = {**TEXT, "vocab_size": len(vocabulary), "rope_theta": 10000.0}
    if family == "qwen3_vl":
        text |= {"head_dim": 16, "rope_scaling": _rope([4, 2, 2], mrope_interleaved=True)}
    else:
        text |= {"rope_scaling": _rope([2, 3, 3])}
    tokens = {
        "image_token_id": vocabulary["<|image_pad|>"],
        "video_token_id": vocabulary["<|video_pad|>"],
        "vision_start_token_id": vocabulary["<|vision_start|>"],
        "vision_end_token_id": vocabulary["<|vision_end|>"],
    }
    config = getattr(transformers, class_name + "Config")(
        text_config=text, vision_config=vision, tie_word_embeddings=False, **tokens
    )
    save_model(folder, class_name + "ForConditionalGeneration", config, seed)


def _clip(layers: int = 3) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 7,
        "projection_dim": 32,
    }


def _siglip() -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 7,
        "vision_use_head": False,
    }


def _llava(folder: Path, family: str, seed: int) -> None:
    import transformers

    special = ["<unk>", "<s>", "</s>", "<image>", "<pad>", "<video>"]
    vocabulary = _save_tokenizer(
        folder,
        metaspace_tokenizer(special, bos="<s>", prefix=True),
        special,
        tokenizer_class="LlamaTokenizer",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        add_bos_token=True,
        add_eos_token=False,
        legacy=False,
    )
    class_name = {
        "llava": "Llava",
        "llava_next": "LlavaNext",
        "llava_next_video": "LlavaNextVideo",
    }[family]
    template = LLAVA_NEXT_MISTRAL_TEMPLATE if family == "llava_next" else LLAVA_TEMPLATE
    _write(folder / "chat_template.json", {"chat_template": template})
    preprocessor: dict[str, Any] = {
        "crop_size": {"height": 28, "width": 28},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "image_processor_type": "CLIPImageProcessor",
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": 28},
        "processor_class": class_name + "Processor",
    }
    if family != "llava":
        preprocessor |= {
            "image_processor_type": "LlavaNextImageProcessor",
            "aspect_ratio_setting": "anyres",
            "image_grid_pinpoints": PINPOINTS,
            "do_pad": True,
        }
    _write(folder / "preprocessor_config.json", preprocessor)
    _write(
        folder / "processor_config.json",
        {
            "image_token": "<image>",
            "num_additional_image_tokens": 1,
            "patch_size": 7,
            "processor_class": class_name + "Processor",
            "vision_feature_select_strategy": "default",
        },
    )
    language = "mistral" if family == "llava_next" else "llama"
    text = {"model_type": language, **TEXT, "vocab_size": len(vocabulary)}
    if language == "mistral":
        text |= {"sliding_window": None}
    settings: dict[str, Any] = {
        "vision_config": _clip(),
        "text_config": text,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "image_token_index": vocabulary["<image>"],
        "tie_word_embeddings": False,
    }
    if family == "llava":
        settings |= {"image_seq_length": 16}
    else:
        settings |= {"image_grid_pinpoints": PINPOINTS}
    if family == "llava_next_video":
        settings |= {"video_token_index": vocabulary["<video>"]}
    config = getattr(transformers, class_name + "Config")(**settings)
    save_model(folder, class_name + "ForConditionalGeneration", config, seed)


def _llava_onevision(folder: Path, seed: int) -> None:
    import transformers

    special = [*CHATML_SPECIAL, "<image>", "<video>"]
    vocabulary = _save_tokenizer(
        folder,
        byte_level_tokenizer(special),
        special,
        tokenizer_class="Qwen2Tokenizer",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    _write(folder / "chat_template.json", {"chat_template": LLAVA_ONEVISION_TEMPLATE})
    _write(
        folder / "preprocessor_config.json",
        {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_grid_pinpoints": PINPOINTS,
            "image_mean": HALF,
            "image_std": HALF,
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "processor_class": "LlavaOnevisionProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": 28, "width": 28},
        },
    )
    _write(
        folder / "processor_config.json",
        {
            "image_token": "<image>",
            "num_image_tokens": 16,
            "processor_class": "LlavaOnevisionProcessor",
            "video_token": "<video>",
            "vision_feature_select_strategy": "full",
            "vision_aspect_ratio": "anyres_max_9",
        },
    )
    config = transformers.LlavaOnevisionConfig(
        vision_config=_siglip(),
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(vocabulary)},
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_grid_pinpoints=PINPOINTS,
        image_token_index=vocabulary["<image>"],
        video_token_index=vocabulary["<video>"],
        vision_aspect_ratio="anyres_max_9",
        tie_word_embeddings=False,
    )
    save_model(folder, "LlavaOnevisionForConditionalGeneration", config, seed)


def _idefics3(folder: Path, family: str, seed: int) -> None:
    import transformers

    smol = family == "smolvlm"
    bos = "<|im_start|>" if smol else "<|begin_of_text|>"
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    special = [
        "<|endoftext|>",
        bos,
        "<fake_token_around_image>",
        "<image>",
        "<end_of_utterance>",
        "<global-img>",
        *tiles,
    ]
    extra: dict[str, Any] = {}
    if smol:
        extra = {
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "end_of_utterance_token": "<end_of_utterance>",
            "global_image_token": "<global-img>",
            "extra_special_tokens": {
                "fake_image_token": "<fake_token_around_image>",
                "image_token": "<image>",
                "end_of_utterance_token": "<end_of_utterance>",
                "global_image_token": "<global-img>",
            },
        }
    vocabulary = _save_tokenizer(
        folder,
        byte_level_tokenizer(special),
        special,
        tokenizer_class="GPT2Tokenizer" if smol else "PreTrainedTokenizerFast",
        bos_token=bos,
        eos_token="<end_of_utterance>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        **extra,
    )
    class_name = "SmolVLM" if smol else "Idefics3"
    template = SMOLVLM_TEMPLATE if smol else IDEFICS3_TEMPLATE
    _write(folder / "chat_template.json", {"chat_template": template})
    _write(
        folder / "preprocessor_config.json",
        {
            "do_convert_rgb": True,
            "do_image_splitting": True,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": HALF,
            "image_std": HALF,
            "image_processor_type": class_name + "ImageProcessor",
            "max_image_size": {"longest_edge": 28},
            "processor_class": class_name + "Processor",
            "resample": 1,
            "rescale_factor": 1 / 255,
            "size": {"longest_edge": 56},
        },
    )
    _write(
        folder / "processor_config.json",
        {"image_seq_len": 4, "processor_class": class_name + "Processor"},
    )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 7,
    }
    config = getattr(transformers, class_name + "Config")(
        vision_config=vision,
        text_config={
            "model_type": "llama",
            **TEXT,
            "vocab_size": len(vocabulary),
            "pad_token_id": 0,
        },
        image_token_id=vocabulary["<image>"],
        pad_token_id=0,
        scale_factor=2,
        tie_word_embeddings=False,
    )
    save_model(folder, class_name + "ForConditionalGeneration", config, seed)


def _internvl(folder: Path, seed: int) -> None:
    import transformers

    special = [*CHATML_SPECIAL, "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    vocabulary = _save_tokenizer(
        folder,
        byte_level_tokenizer(special),
        special,
        tokenizer_class="Qwen2Tokenizer",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        **named,
        extra_special_tokens=named,
    )
    (folder / "chat_template.jinja").write_text(INTERNVL_TEMPLATE, encoding="utf-8")
    _write(
        folder / "preprocessor_config.json",
        {
            "crop_size": None,
            "crop_to_patches": False,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
            "image_processor_type": "GotOcr2ImageProcessor",
            "max_patches": 4,
            "min_patches": 1,
            "processor_class": "InternVLProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": 28, "width": 28},
        },
    )
    _write(
        folder / "processor_config.json",
        {"image_seq_length": 4, "processor_class": "InternVLProcessor"},
    )
    config = transformers.InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [28, 28],
            "patch_size": [7, 7],
            "use_absolute_position_embeddings": True,
        },
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(vocabulary)},
        image_token_id=vocabulary["<IMG_CONTEXT>"],
        image_seq_length=4,
        downsample_ratio=0.5,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    save_model(folder, "InternVLForConditionalGeneration", config, seed)


GEMMA_TEXT = {
    **TEXT,
    "num_hidden_layers": 4,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 24,
}


def _gemma3(folder: Path, seed: int) -> None:
    import transformers

    special = [
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<start_of_image>",
        "<end_of_image>",
        "<image_soft_token>",
    ]
    named = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    vocabulary = _save_tokenizer(
        folder,
        metaspace_tokenizer(special, bos="<bos>", prefix=False),
        special,
        tokenizer_class="GemmaTokenizer",
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        add_bos_token=True,
        add_eos_token=False,
        **named,
        extra_special_tokens=named,
    )
    _write(folder / "chat_template.json", {"chat_template": GEMMA3_TEMPLATE})
    _write(
        folder / "preprocessor_config.json",
        {
            "do_convert_rgb": None,
            "do_normalize": True,
            "do_pan_and_scan": None,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": HALF,
            "image_std": HALF,
            "image_processor_type": "Gemma3ImageProcessor",
            "image_seq_length": 4,
            "processor_class": "Gemma3Processor",
            "resample": 2,
            "rescale_factor": 1 / 255,
            "size": {"height": 28, "width": 28},
        },
    )
    _write(
        folder / "processor_config.json",
        {"image_seq_length": 4, "processor_class": "Gemma3Processor"},
    )
    config = transformers.Gemma3Config(
        vision_config=_siglip(),
        text_config={
            **GEMMA_TEXT,
            "vocab_size": len(vocabulary),
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        },
        mm_tokens_per_image=4,
        boi_token_index=vocabulary["<start_of_image>"],
        eoi_token_index=vocabulary["<end_of_image>"],
        image_token_index=vocabulary["<image_soft_token>"],
        tie_word_embeddings=False,
    )
    save_model(folder, "Gemma3ForConditionalGeneration", config, seed)


def _mistral3(folder: Path, seed: int) -> None:
    import transformers

    special = [
        "<unk>",
        "<s>",
        "</s>",
        "[INST]",
        "[/INST]",
        "[IMG]",
        "<pad>",
        "[IMG_BREAK]",
        "[IMG_END]",
        "[SYSTEM_PROMPT]",
        "[/SYSTEM_PROMPT]",
    ]
    vocabulary = _save_tokenizer(
        folder,
        byte_level_tokenizer(special),
        special,
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    )
    (folder / "chat_template.jinja").write_text(MISTRAL3_TEMPLATE, encoding="utf-8")
    _write(
        folder / "preprocessor_config.json",
        {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
            "image_processor_type": "PixtralImageProcessor",
            "patch_size": 7,
            "processor_class": "PixtralProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"longest_edge": 56},
        },
    )
    _write(
        folder / "processor_config.json",
        {
            "image_break_token": "[IMG_BREAK]",
            "image_end_token": "[IMG_END]",
            "image_token": "[IMG]",
            "patch_size": 7,
            "processor_class": "PixtralProcessor",
            "spatial_merge_size": 2,
        },
    )
    config = transformers.Mistral3Config(
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "head_dim": 16,
            "image_size": 56,
            "patch_size": 7,
        },
        text_config={
            "model_type": "mistral",
            **TEXT,
            "head_dim": 16,
            "sliding_window": None,
            "vocab_size": len(vocabulary),
        },
        image_token_index=vocabulary["[IMG]"],
        spatial_merge_size=2,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    save_model(folder, "Mistral3ForConditionalGeneration", config, seed)


def _glm4v(folder: Path, seed: int) -> None:
    import transformers

    special = [
        "<|endoftext|>",
        "[gMASK]",
        "<sop>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|begin_of_image|>",
        "<|end_of_image|>",
        "<|begin_of_video|>",
        "<|end_of_video|>",
        "<|image|>",
        "<|video|>",
    ]
    vocabulary = _save_tokenizer(
        folder,
        byte_level_tokenizer(special),
        special,
        tokenizer_class="PreTrainedTokenizerFast",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    (folder / "chat_template.jinja").write_text(GLM4V_TEMPLATE, encoding="utf-8")
    _write(
        folder / "preprocessor_config.json",
        {
            "size": {"shortest_edge": 2 * 28**2, "longest_edge": 2 * 112**2},
            "do_rescale": True,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
            "image_processor_type": "Glm4vImageProcessor",
            "processor_class": "Glm4vProcessor",
        },
    )
    config = transformers.Glm4vConfig(
        text_config={
            **TEXT,
            "vocab_size": len(vocabulary),
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "rope_scaling": _rope([1, 1, 2], partial_rotary_factor=0.5, rope_theta=10000.0),
            "pad_token_id": 0,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "out_hidden_size": 64,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 14,
            "image_size": 56,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        image_token_id=vocabulary["<|image|>"],
        video_token_id=vocabulary["<|video|>"],
        image_start_token_id=vocabulary["<|begin_of_image|>"],
        image_end_token_id=vocabulary["<|end_of_image|>"],
        video_start_token_id=vocabulary["<|begin_of_video|>"],
        video_end_token_id=vocabulary["<|end_of_video|>"],
        tie_word_embeddings=False,
    )
    save_model(folder, "Glm4vForConditionalGeneration", config, seed)


def _text(folder: Path, family: str, seed: int) -> None:
    import transformers

    if family == "gemma2":
        special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
        tokenizer = metaspace_tokenizer(special, bos="<bos>", prefix=False)
        settings = {
            "tokenizer_class": "GemmaTokenizer",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "chat_template": GEMMA2_TEMPLATE,
        }
    elif family == "llama":
        special = [
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ]
        tokenizer = byte_level_tokenizer(special)
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|eot_id|>",
            "chat_template": LLAMA3_TEMPLATE,
        }
    else:
        tokenizer = byte_level_tokenizer(CHATML_SPECIAL)
        special = CHATML_SPECIAL
        settings = {
            "tokenizer_class": "Qwen2Tokenizer",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "chat_template": QWEN3_TEMPLATE if family == "qwen3" else QWEN2_TEMPLATE,
        }
    vocabulary = _save_tokenizer(folder, tokenizer, special, **settings)
    class_name = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "gemma2": "Gemma2"}[family]
    text = {**TEXT, "vocab_size": len(vocabulary)}
    if family == "gemma2":
        text = {
            **GEMMA_TEXT,
            "vocab_size": len(vocabulary),
            "attn_logit_softcapping": 20.0,
            "final_logit_softcapping": 10.0,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        }
    if family == "qwen3":
        text |= {"head_dim": 16}
    config = getattr(transformers, class_name + "Config")(**text)
    save_model(folder, class_name + "ForCausalLM", config, seed)


IMAGE_FAMILIES = (
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "llava",
    "llava_next",
    "llava_next_video",
    "llava_onevision",
    "idefics3",
    "smolvlm",
    "internvl",
    "gemma3",
    "mistral3",
    "glm4v",
)
TEXT_FAMILIES = ("llama", "qwen2", "qwen3", "gemma2")


def tiny_folder(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a tiny random checkpoint of `family` into `folder` and return the folder."""
    folder = Path(folder)
    if family.startswith("qwen") and family.endswith("vl"):
        _qwen(folder, family, seed)
    elif family in ("llava", "llava_next", "llava_next_video"):
        _llava(folder, family, seed)
    elif family == "llava_onevision":
        _llava_onevision(folder, seed)
    elif family in ("idefics3", "smolvlm"):
        _idefics3(folder, family, seed)
    elif family == "internvl":
        _internvl(folder, seed)
    elif family == "gemma3":
        _gemma3(folder, seed)
    elif family == "mistral3":
        _mistral3(folder, seed)
    elif family == "glm4v":
        _glm4v(folder, seed)
    elif family in TEXT_FAMILIES:
        _text(folder, family, seed)
    else:
        raise ValueError(family)
    return folder
