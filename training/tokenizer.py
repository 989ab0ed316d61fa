"""The tokenizer and the chat template, built from the word list."""

from __future__ import annotations

import json
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from tasm.suites import words
from tasm.suites.fonts import NAMED
from tasm.suites.pictures import COLOURS, SHAPES

TEMPLATE = (
    "{%- macro show(content) -%}"
    "{%- if content is string -%}{{ content | trim }}"
    "{%- else -%}{%- for part in content -%}"
    "{%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}"
    "<|vision_start|><|image_pad|>"
    "{%- elif 'text' in part -%}{{ part.text | trim }}{%- if not loop.last -%}{{ ' ' }}"
    "{%- endif -%}{%- endif -%}{%- endfor -%}{%- endif -%}{%- endmacro -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'assistant' -%}<|answer|>{{ show(message.content) }}<|end|>"
    "{%- elif message.role == 'system' -%}<|system|>{{ show(message.content) }}<|end|>"
    "{%- else -%}{{ show(message.content) }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|answer|>{%- endif -%}"
)
SPECIAL = (
    "<|pad|>",
    "<|end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|answer|>",
    "<|system|>",
)
SPACE = "\u0120"  # how byte-level tokens write the space before a word


def _bytes() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


@cache
def single_tokens() -> tuple[str, ...]:
    """Every word that is one token."""
    spoken = [*words.ASKING, *words.NOTED, *words.PLACES, *words.NUMBERS, *words.OTHER]
    return tuple(dict.fromkeys([*spoken, *COLOURS, *SHAPES, *NAMED, *words.nonce()]))


def vocabulary() -> dict[str, int]:
    """Special tokens, words, syllables that open and close a label, bytes and their pairs."""
    found = [*SPECIAL, *(SPACE + w for w in single_tokens())]
    found += [SPACE + s for s in words.SYLLABLES] + list(words.SYLLABLES)
    found += [SPACE + c for c in words.CONSONANTS] + _bytes()
    return {token: i for i, token in enumerate(dict.fromkeys(found))}


def tokenizer() -> Any:
    """Words of the list are one token, words of two syllables two, anything else bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pairs = list(product(words.CONSONANTS, words.VOWELS))
    merges = [(SPACE, c) for c in words.CONSONANTS]
    merges += [(SPACE + c, v) for c, v in pairs] + pairs
    inner = Tokenizer(models.BPE(vocab=vocabulary(), merges=merges, ignore_merges=True))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    inner.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    inner.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=list(SPECIAL[2:]),
        model_max_length=16384,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def special_ids() -> dict[str, int]:
    """The ids of the special tokens."""
    return {token: vocabulary()[token] for token in SPECIAL}


def text_ids(text: str, table: dict[str, int]) -> list[int]:
    """The ids of words of the list, without the tokenizer (training builds many)."""
    out: list[int] = []
    for word in text.split():
        whole = table.get(SPACE + word)
        out += [whole] if whole is not None else [table[SPACE + word[:2]], table[word[2:]]]
    return out


def write_processor(folder: Path, side: int, patch: int, merge: int) -> None:
    """Image processor settings that resize every picture to the trained size."""
    settings = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "min_pixels": side * side,
        "max_pixels": side * side,
        "size": {"shortest_edge": side * side, "longest_edge": side * side},
        "patch_size": patch,
        "temporal_patch_size": 1,
        "merge_size": merge,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=1) + "\n")
