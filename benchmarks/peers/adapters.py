"""The peers: a model adapted by LoRA, by a trained prefix, by a task memory, or not at all.

Each says what it costs (`seconds`, `stored_bytes`) and gives the cache that `generate` begins with.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from tasm.answer.generation import end_tokens
from tasm.backbone.cache import MemoryCache
from tasm.backbone.hooks import set_attention
from tasm.backbone.segment import Segment
from tasm.backbone.transcript import Layout, Role
from tasm.build.api import build
from tasm.demonstrations import Demonstration, Query

LORA_RANK, LORA_ALPHA, LORA_RATE = 16, 32, 1e-3
PREFIX_RATE = 1e-2
EPOCHS = 5
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass
class Peer:
    """An adapted model: what adapting took, and what its prompts start from.

    `seconds` of adapting, `stored_bytes` that must be kept for the task; a memory or a prefix
    stands before every prompt, LoRA is in the model itself.
    """

    name: str
    seconds: float = 0.0
    stored_bytes: int = 0
    memory: Any = None
    prefix: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    next_position: int = 0

    @property
    def stands_before_prompts(self) -> bool:
        """Whether a prompt is read after something that this peer kept."""
        return self.memory is not None or bool(self.prefix)

    def cache(self, hf: Any) -> Any:
        """Return a fresh cache to generate with, None for the model's own."""
        if self.memory is not None:
            return self.memory.cache()
        if not self.prefix:
            return None
        return MemoryCache.from_segments(
            hf.config,
            [[Segment(keys, values)] for keys, values in self.prefix],
            next_position=self.next_position,
            logical_length=self.prefix[0][0].shape[2],
        )


def tasm_peer(backbone: Any, demonstrations: Sequence[Demonstration]) -> Peer:
    """Build the default memory."""
    started = time.perf_counter()
    memory = build(backbone, demonstrations)
    stored = memory.core_bytes + memory.bank_bytes
    return Peer("tasm", time.perf_counter() - started, stored, memory=memory)


@contextmanager
def lora_peer(
    backbone: Any, demonstrations: Sequence[Demonstration], epochs: int = EPOCHS
) -> Iterator[Peer]:
    """Train LoRA on the text decoder, and take it off again at the end."""
    from peft import LoraConfig, get_peft_model

    started = time.perf_counter()
    decoder = {id(module) for module in backbone.decoder.modules()}
    names = [
        name
        for name, module in backbone.hf.named_modules()
        if id(module) in decoder and name.rsplit(".", 1)[-1] in PROJECTIONS
    ]
    model = get_peft_model(
        backbone.hf, LoraConfig(r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules=names)
    )
    try:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        _train(backbone, demonstrations, trained, LORA_RATE, epochs)
        stored = sum(parameter.nbytes for parameter in trained)
        yield Peer("lora", time.perf_counter() - started, stored)
    finally:
        model.unload()


def prefix_peer(
    backbone: Any,
    demonstrations: Sequence[Demonstration],
    stored_bytes: int,
    epochs: int = EPOCHS,
) -> Peer:
    """Train keys and values of as many tokens as fit `stored_bytes`."""
    started = time.perf_counter()
    full = build(backbone, demonstrations, recipe="full")
    layers = [layer for layer in full.core if layer is not None]
    token_bytes = sum(2 * layer.keys[:, :1].nbytes for layer in layers)
    tokens = max(1, min(stored_bytes // token_bytes, len(full.tokens)))
    prefix = [
        (
            layer.keys[None, :, :tokens].clone().requires_grad_(),
            layer.values[None, :, :tokens].clone().requires_grad_(),
        )
        for layer in layers
    ]
    trained = [tensor for pair in prefix for tensor in pair]
    next_position = int(full.tokens.positions[:, :tokens].max()) + 1
    _train(backbone, demonstrations, trained, PREFIX_RATE, epochs, prefix, next_position)
    frozen = [(keys.detach(), values.detach()) for keys, values in prefix]
    return Peer(
        "prefix",
        time.perf_counter() - started,
        sum(tensor.nbytes for tensor in trained),
        prefix=frozen,
        next_position=next_position,
    )


def prefix_cache(prefix: Sequence[tuple[Tensor, Tensor]]) -> DynamicCache:
    """Return a stock cache that begins with the prefix."""
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(prefix):
        cache.update(keys, values, layer)
    return cache


@contextmanager
def stock_attention(hf: Any) -> Iterator[None]:
    """Run transformers' own attention, which has gradients for a cache."""
    set_attention(hf, "sdpa")
    try:
        yield
    finally:
        set_attention(hf, "tasm")


def positions_from(hf: Any, inputs: dict[str, Tensor], offset: int) -> Tensor:
    """Return the position ids of a prompt that begins at `offset`."""
    body = getattr(hf, "model", hf)
    if not hasattr(body, "get_rope_index"):
        return torch.arange(inputs["input_ids"].shape[1])[None] + offset
    names = ("input_ids", "image_grid_thw", "attention_mask", "mm_token_type_ids")
    given = {name: inputs[name] for name in names if name in inputs}
    return body.get_rope_index(**given)[0] + offset


def _train(
    backbone: Any,
    demonstrations: Sequence[Demonstration],
    trained: Sequence[Tensor],
    rate: float,
    epochs: int,
    prefix: Sequence[tuple[Tensor, Tensor]] = (),
    next_position: int = 0,
) -> None:
    """Fit `trained` to the demonstrations, one a step, the loss on their answers."""
    hf = backbone.hf
    optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    order = torch.Generator().manual_seed(0)
    samples = [_sample(backbone, item, bool(prefix)) for item in demonstrations]
    with stock_attention(hf), torch.enable_grad():
        for _ in range(epochs):
            for number in torch.randperm(len(samples), generator=order).tolist():
                inputs, is_learned = samples[number]
                arguments = {k: v for k, v in inputs.items() if k != "attention_mask"}
                if prefix:
                    arguments["past_key_values"] = prefix_cache(prefix)
                    arguments["position_ids"] = positions_from(hf, inputs, next_position)
                logits = hf(**arguments).logits[0, :-1]
                wanted = inputs["input_ids"][0, 1:]
                loss = torch.nn.functional.cross_entropy(
                    logits[is_learned[1:]].float(), wanted[is_learned[1:]]
                )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()


def _sample(
    backbone: Any, demonstration: Demonstration, after_prefix: bool
) -> tuple[dict[str, Tensor], Tensor]:
    """One demonstration as inputs, and which of its tokens are to be learned."""
    question = Query(demonstration.id, demonstration.messages[:-1])
    layout = Layout(multi_image=bool(question.pictures))
    if after_prefix:
        inputs = backbone.query_inputs([question], layout=layout)
    else:
        inputs = backbone.full_inputs([], question, layout=layout)
    transcript = backbone.transcript([demonstration])
    answer = transcript.input_ids[transcript.roles == int(Role.ANSWER)]
    vocabulary = backbone.hf.get_input_embeddings().num_embeddings
    end = [token for token in end_tokens(backbone.hf) if token < vocabulary][:1]
    answer = torch.cat([answer, torch.tensor(end, dtype=torch.long)]).to(backbone.device)[None]
    is_learned = torch.zeros(inputs["input_ids"].shape[1] + answer.shape[1], dtype=torch.bool)
    is_learned[-answer.shape[1] :] = True
    inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], dim=1)
    for name, value in (("attention_mask", 1), ("mm_token_type_ids", 0), ("token_type_ids", 0)):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], torch.full_like(answer, value)], dim=1)
    return inputs, is_learned
