"""The model's shape, and fast batched passes over the stock modules for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH = 256
TOWER_WIDTH, TOWER_LAYERS, TOWER_HEADS = 128, 4, 4
PATCH, MERGE, TOKENS = 8, 2, 16
THETA = 10000.0


@dataclass(frozen=True)
class Shape:
    """The decoder's shape; as it stands here, that of the bundled model."""

    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 512

    @property
    def head(self) -> int:
        """Channels of a head."""
        return WIDTH // self.heads

    @property
    def sections(self) -> list[int]:
        """Rotary channels of time, height, width: the fast ones tell rows and columns."""
        half = self.head // 2
        time, height = half // 16, half * 5 // 32
        return [time, height, half - time - height]


BUNDLED = Shape()


def shape_of(settings: Any) -> Shape:
    """The shape that a text configuration names."""
    return Shape(
        settings.num_hidden_layers,
        settings.num_attention_heads,
        settings.num_key_value_heads,
        settings.intermediate_size,
    )


def config(vocabulary: int, ids: dict[str, int], shape: Shape = BUNDLED) -> Any:
    """The stock configuration; `ids` are those of the special tokens."""
    from transformers import Qwen2VLConfig

    text = {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.mlp,
        "max_position_embeddings": 16384,
        "rms_norm_eps": 1e-6,
        "rope_theta": THETA,
        "rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": shape.sections},
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": THETA,
            "mrope_section": shape.sections,
        },
        "bos_token_id": None,
        "eos_token_id": ids["<|end|>"],
        "pad_token_id": ids["<|pad|>"],
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": TOWER_LAYERS,
        "embed_dim": TOWER_WIDTH,
        "hidden_size": WIDTH,
        "num_heads": TOWER_HEADS,
        "mlp_ratio": 4,
        "in_channels": 3,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 1,
    }
    return Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def build(vocabulary: int, ids: dict[str, int], shape: Shape = BUNDLED) -> Any:
    """A fresh model; large embeddings and a small final norm let copying be learned."""
    from transformers import Qwen2VLForConditionalGeneration

    model = Qwen2VLForConditionalGeneration(config(vocabulary, ids, shape))
    language = model.model.language_model
    with torch.no_grad():
        language.embed_tokens.weight.normal_(0, 0.5)
        language.norm.weight.fill_(0.15)
    model.tie_weights()
    return model


def _half_turn(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


def tower(visual: Any, patch: Tensor) -> Tensor:
    """(N, 64, 192) -> (N, 16, WIDTH): the stock tower on pictures of one size, as one batch."""
    count, length, _ = patch.shape
    head = TOWER_WIDTH // TOWER_HEADS
    x = F.linear(patch, visual.patch_embed.proj.weight.flatten(1))
    side = int(length**0.5) // MERGE
    at = torch.arange(length)
    block, inner = at // (MERGE * MERGE), at % (MERGE * MERGE)
    row = block // side * MERGE + inner // MERGE
    column = block % side * MERGE + inner % MERGE
    rates = 1.0 / 10000.0 ** (torch.arange(0, head // 2, 2).float() / (head // 2))
    angle = torch.cat((row[:, None] * rates, column[:, None] * rates), -1)
    angle = torch.cat((angle, angle), -1)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    for block_ in visual.blocks:
        y = block_.norm1(x)
        qkv = block_.attn.qkv(y).view(count, length, 3, TOWER_HEADS, head)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        c, s = cos.to(q.dtype), sin.to(q.dtype)
        q, k = q * c + _half_turn(q) * s, k * c + _half_turn(k) * s
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        weight = torch.softmax((q * head**-0.5) @ k.transpose(2, 3), -1, dtype=torch.float32)
        y = (weight.to(v.dtype) @ v).transpose(1, 2).reshape(count, length, TOWER_WIDTH)
        x = x + block_.attn.proj(y)
        y = block_.mlp.fc1(block_.norm2(x))
        x = x + block_.mlp.fc2(y * torch.sigmoid(1.702 * y))
    merger = visual.merger
    x = merger.ln_q(x).reshape(count, length // (MERGE * MERGE), -1)
    return merger.mlp(x)  # type: ignore[no-any-return]


@dataclass
class Pass:
    """What the decoder's pass gives: states after the final norm, and guided attention."""

    embeds: Tensor
    states: Tensor
    inner: list[Tensor]
    attention: dict[int, Tensor]


def rotary(positions: Tensor, shape: Shape = BUNDLED) -> tuple[Tensor, Tensor]:
    """cos and sin (B, L, head) of M-RoPE positions (3, B, L)."""
    half = shape.head // 2
    rates = 1.0 / THETA ** (torch.arange(half).float() / half)
    which = torch.repeat_interleave(torch.arange(3), torch.tensor(shape.sections))
    angle = positions.float().permute(1, 2, 0)[..., which] * rates
    angle = torch.cat((angle, angle), -1)
    return angle.cos(), angle.sin()


def decoder(
    language: Any, embeds: Tensor, positions: Tensor, mask: Tensor, watch: tuple[int, ...] = ()
) -> Pass:
    """The stock decoder in one batch; `mask` (L, L) or (B, 1, 1, L, L) is added to the logits.

    `watch` names the layers whose attention (B, KV, group, L, L) is wanted.
    """
    batch, length, width = embeds.shape
    shape = shape_of(language.config)
    head, kv_heads, group = shape.head, shape.kv_heads, shape.heads // shape.kv_heads
    cos, sin = rotary(positions, shape)
    cos, sin = cos[:, :, None], sin[:, :, None]
    x, seen, inner = embeds, {}, []
    for index, layer in enumerate(language.layers):
        y = layer.input_layernorm(x)
        att = layer.self_attn
        q = att.q_proj(y).view(batch, length, shape.heads, head)
        k = att.k_proj(y).view(batch, length, kv_heads, head)
        v = att.v_proj(y).view(batch, length, kv_heads, head)
        c, s = cos.to(q.dtype), sin.to(q.dtype)
        q, k = (q * c + _half_turn(q) * s) * head**-0.5, k * c + _half_turn(k) * s
        q = q.view(batch, length, kv_heads, group, head).permute(0, 2, 3, 1, 4)
        q = q.reshape(batch, kv_heads, group * length, head)
        scores = q @ k.permute(0, 2, 3, 1)
        scores = scores.view(batch, kv_heads, group, length, length) + mask.to(scores.dtype)
        weight = torch.softmax(scores, -1)
        if index in watch:
            seen[index] = weight
        y = weight.view(batch, kv_heads, group * length, length) @ v.transpose(1, 2)
        y = y.view(batch, kv_heads, group, length, head).permute(0, 3, 1, 2, 4)
        x = x + att.o_proj(y.reshape(batch, length, width))
        y = layer.post_attention_layernorm(x)
        mlp = layer.mlp
        x = x + mlp.down_proj(F.silu(mlp.gate_proj(y)) * mlp.up_proj(y))
        inner.append(x)
    return Pass(embeds, language.norm(x), inner, seen)
