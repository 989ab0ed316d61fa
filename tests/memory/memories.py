"""Small memories made of random tensors, for the tests of the memory room."""

from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from tasm.backbone.attention.rotary import Rotary
from tasm.backbone.checkpoint.identity import Identity
from tasm.backbone.geometry import Geometry
from tasm.backbone.prompt.transcript import Layout
from tasm.memory import (
    Bank,
    DemonstrationEntry,
    GateReference,
    GateSettings,
    LayerTokens,
    PictureEntry,
    TaskMemory,
    TokenTable,
)
from tasm.memory.contents import Contents
from tasm.memory.packing.bank import packed_bank
from tasm.memory.packing.core import packed_core
from tasm.memory.packing.vectors import Store

LAYERS, KV_HEADS, HEAD_DIM = 2, 2, 8


def geometry(layers: int = LAYERS) -> Geometry:
    return Geometry(
        layers=layers,
        kv_heads=KV_HEADS,
        query_heads=2 * KV_HEADS,
        head_dim=HEAD_DIM,
        layer_kinds=("full",) * layers,
        sliding_window=None,
        max_positions=4096,
        position_rows=1,
    )


def identity(weights: str = "a" * 64) -> Identity:
    return Identity({"weights": weights, "config": "b" * 64, "tokenizer": "c" * 64})


def layer_tokens(
    generator: torch.Generator,
    lengths: tuple[int, ...],
    *,
    total: int,
    bias: bool = False,
    dtype: torch.dtype = torch.float32,
) -> LayerTokens:
    """Random tokens, `lengths[head]` of each head, chosen among `total`."""

    def random(count: int) -> torch.Tensor:
        return torch.randn(count, HEAD_DIM, generator=generator).to(dtype)

    index = [torch.randperm(total, generator=generator)[:n].sort().values for n in lengths]
    return LayerTokens.of_heads(
        torch.cat([random(n) for n in lengths]),
        torch.cat([random(n) for n in lengths]),
        torch.cat(index).int(),
        lengths,
        torch.cat([torch.rand(n, generator=generator) for n in lengths]) if bias else None,
    )


def token_table(total: int) -> TokenTable:
    """Eight system tokens, then text and 2 × 2 images in turn."""
    positions = torch.arange(total)
    demonstration = torch.where(positions < 8, -1, (positions - 8) // 8)
    within = (positions - 8) % 8
    is_image = (positions >= 8) & (within < 4)
    place = torch.stack([demonstration, torch.zeros(total), within // 2, within % 2], -1)
    roles = torch.where(positions < 8, 0, torch.where(is_image, 3, 4))
    return TokenTable.make(
        positions[None], roles, demonstration, place.masked_fill(~is_image[:, None], -1)
    )


def task_memory(
    *,
    core: tuple[int, ...] = (12, 12),
    bank: tuple[int, ...] | None = (20, 20),
    total: int = 64,
    bias: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    gate: GateSettings | None = None,
) -> TaskMemory:
    generator = torch.Generator().manual_seed(seed)

    def some(lengths: tuple[int, ...], with_bias: bool) -> list[LayerTokens | None]:
        return [
            layer_tokens(generator, lengths, total=total, bias=with_bias, dtype=dtype)
            for _ in range(LAYERS)
        ]

    kept = some(core, bias)
    reference = None
    if bank is not None:
        shares = [torch.rand(layer.index.shape, generator=generator) for layer in kept if layer]
        reference = GateReference(
            layers=tuple(share / share.sum(-1, keepdim=True) for share in shares),
            thresholds=(0.01,) * LAYERS,
            step_thresholds=(0.002, None),
        )
    return TaskMemory(
        core=kept,
        tokens=token_table(total),
        next_position=total,
        logical_length=total,
        full_bytes=LAYERS * KV_HEADS * total * HEAD_DIM * 2 * dtype.itemsize,
        geometry=geometry(),
        identity=identity(),
        layout=Layout(system="Be brief.", max_pixels=None, multi_image=True),
        recipe={"name": "tasm", "settings": {"core": "20%", "window": 3}},
        model_name="somewhere/model",
        bank=None if bank is None else Bank(some(bank, False)),
        gate=gate,
        reference=reference,
        demonstrations=[
            DemonstrationEntry(
                id=f"{number:x}123456789abcdef",
                spans=((8 + 8 * number, min(16 + 8 * number, total)),),
                content_hash="d" * 64,
                pictures=(PictureEntry("e" * 64, "/data/pictures/ä.png"),),
                origin="/data/birds.jsonl",
                question="<image> Which bird is this?",
                answer="wren",
            )
            for number in range(-(-(total - 8) // 8))
        ],
        report={"tokens": total, "core_tokens": 12.5},
    )


def packed_memory(store: Store = "int4", **options: Any) -> TaskMemory:
    """`task_memory` in few bits, its keys un-rotated by a tiny model's own rotation."""
    memory = task_memory(**options)
    sizes = {"num_attention_heads": 4, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM}
    config = LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=LAYERS, **sizes
    )
    kinds = memory.geometry.layer_kinds
    dtype = getattr(torch, memory.dtype)
    core = packed_core(memory.contents.core, store, Rotary(LlamaForCausalLM(config)), kinds, dtype)
    bank = None if memory.bank is None else packed_bank(memory.bank, core)
    reference = memory.reference and replace(memory.reference, layers=core.distributions)
    return memory._with(Contents(core, bank, reference))


def brought(memory: TaskMemory) -> torch.Tensor:
    """What a fixed query retrieves: values (batch, kv_heads, k, head_dim)."""
    query = torch.randn(1, 2, 2, 8, generator=torch.Generator().manual_seed(9))
    return memory.cache(gate="always").extra(0, query, 0.4).values


class Searches(Dataset):
    """What a loader's worker does with a memory that it carries; here, so that it is found."""

    def __init__(self, memory: TaskMemory) -> None:
        self.memory = memory

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> torch.Tensor:
        return brought(self.memory)[0, number]
