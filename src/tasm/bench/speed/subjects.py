"""What the speed rows run on: demonstrations of noise, filled caches, a stock twin of the model.

Random keys and values serve for decoding: its time depends on their number, not on what they say.
"""

import copy
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache

from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.hooks import set_attention
from tasm.backbone.attention.segment import Segment
from tasm.backbone.prompt.transcript import Transcript
from tasm.demonstrations import Demonstration, Query, make_query, read_demonstrations

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone

IMAGE_SIDE = 224
"""Pixels; 64 tokens with patches of 14 pixels merged 2 x 2."""

_QUESTION = "Which of the words belongs to this picture?"
_WORDS = "amber birch cedar delta ember flint grove heath inlet jetty knoll ledge".split()


def noise_demonstrations(count: int, words: int = 0) -> list[Demonstration]:
    """Return `count` different demonstrations: an image of noise, a question that `words` more
    words follow, one word."""
    chance = random.Random(0)
    rows = [
        {
            "images": [noise_image(number)],
            "question": " ".join([_QUESTION, *chance.choices(_WORDS, k=words)]),
            "answer": f"{chance.choice(_WORDS)} {number}",
        }
        for number in range(count)
    ]
    return read_demonstrations(rows)


def noise_image(seed: int) -> Image.Image:
    """Return an image of coloured noise."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (IMAGE_SIDE, IMAGE_SIDE, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def noise_query() -> Query:
    """Return a query of the same kind."""
    return make_query(_QUESTION, images=[noise_image(10**6)])


def stock_twin(backbone: "Backbone") -> Any:
    """Return the same model with transformers' own attention; weights are shared, not copied."""
    hf = backbone.hf
    shared = {id(tensor): tensor for tensor in (*hf.parameters(), *hf.buffers())}
    twin = copy.copy(backbone)
    twin.hf = copy.deepcopy(hf, shared)
    set_attention(twin.hf, "sdpa")
    return twin


def stock_prefill(stock: Any, transcript: Transcript) -> DynamicCache:
    """Run a stock twin over a transcript with the stock cache and no logits but the last."""
    cache = DynamicCache(config=stock.hf.config.get_text_config(decoder=True))
    stock.encode(transcript, cache)
    return cache


def _random_keys(
    backbone: "Backbone", batch: int, tokens: int
) -> tuple[torch.Tensor, torch.Tensor]:
    geometry = backbone.geometry
    shape = (batch, geometry.kv_heads, tokens, geometry.head_dim)
    made = [torch.randn(shape, dtype=backbone.dtype, device=backbone.device) for _ in range(2)]
    return made[0], made[1]


def stock_cache(backbone: "Backbone", tokens: int, batch: int = 1) -> DynamicCache:
    """Return a stock cache that holds `tokens` random tokens in `batch` rows."""
    cache = DynamicCache(config=backbone.hf.config.get_text_config(decoder=True))
    for layer in range(backbone.geometry.layers):
        cache.update(*_random_keys(backbone, batch, tokens), layer)
    return cache


def memory_cache(backbone: "Backbone", tokens: int, live_tokens: int | None = None) -> MemoryCache:
    """Return a memory's cache over `tokens` random tokens, shared by all rows, gate never."""
    segments: Sequence[Sequence[Segment]] = [
        [Segment(*_random_keys(backbone, 1, tokens))] for _ in range(backbone.geometry.layers)
    ]
    return MemoryCache.from_segments(
        backbone.hf.config,
        segments,
        next_position=tokens,
        logical_length=tokens,
        live_tokens=live_tokens,
    )


def decode_steps(hf: Any, cache: Any, steps: int, batch: int = 1) -> None:
    """Run `steps` decode steps of one token a row."""
    token = torch.ones(batch, 1, dtype=torch.long, device=hf.device)
    with torch.inference_mode():
        for _ in range(steps):
            hf(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)
