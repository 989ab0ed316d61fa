"""The peers: a model adapted by LoRA, by a trained prefix, by a task memory, or not at all.

Each says what it costs (`seconds`, `stored_bytes`) and gives the cache that `generate` begins with.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from fitting import Fit, train
from torch import Tensor

from tasm.answer import full_context
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.segment import Segment
from tasm.compress.api import build
from tasm.demonstrations import Demonstration

PEERS = ("full", "zero-shot", "tasm", "cut", "lora", "prefix", "prefix-core")
LORA_RANK, LORA_ALPHA = 16, 32
LORA_FIT = Fit(rate=1e-3, epochs=10)
PREFIX_FIT = Fit(rate=3e-2, epochs=10)
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
            [
                [Segment(keys.detach().to(hf.dtype), values.detach().to(hf.dtype))]
                for keys, values in self.prefix
            ],
            next_position=self.next_position,
            logical_length=self.prefix[0][0].shape[2],
        )


@contextmanager
def adapted(
    name: str, backbone: Any, demonstrations: Sequence[Demonstration], fits: dict[str, Fit]
) -> Iterator[Peer]:
    """Adapt the model as a peer does, and leave it afterwards as it was."""
    if name == "lora":
        with lora_peer(backbone, demonstrations, fits["lora"]) as peer:
            yield peer
    elif name in ("cut", "prefix", "prefix-core"):
        memory = tasm_peer(backbone, demonstrations).memory
        size = memory.core_bytes + (0 if name == "prefix-core" else memory.bank_bytes)
        fit = replace(fits["prefix"], epochs=0) if name == "cut" else fits["prefix"]
        yield prefix_peer(backbone, demonstrations, size, fit)
    elif name == "tasm":
        yield tasm_peer(backbone, demonstrations)
    elif name == "full":
        started = time.perf_counter()
        context = full_context(backbone, demonstrations)
        yield Peer("full", time.perf_counter() - started, context.full_bytes, memory=context)
    elif name == "zero-shot":
        yield Peer("zero-shot")
    else:
        raise SystemExit(f"There is no peer {name!r}; there are {', '.join(PEERS)}.")


def tasm_peer(backbone: Any, demonstrations: Sequence[Demonstration]) -> Peer:
    """Build the memory of `tasm`."""
    started = time.perf_counter()
    memory = build(backbone, demonstrations, recipe="tasm")
    stored = memory.core_bytes + memory.bank_bytes
    return Peer("tasm", time.perf_counter() - started, stored, memory=memory)


@contextmanager
def lora_peer(
    backbone: Any, demonstrations: Sequence[Demonstration], fit: Fit = LORA_FIT
) -> Iterator[Peer]:
    """Train LoRA on the text decoder, and take it off again at the end."""
    started = time.perf_counter()
    with lora(backbone) as trained:
        peer = Peer("lora", stored_bytes=sum(parameter.nbytes for parameter in trained))
        for _ in train(backbone, demonstrations, trained, fit):
            pass
        peer.seconds = time.perf_counter() - started
        yield peer


@contextmanager
def lora(backbone: Any) -> Iterator[list[Tensor]]:
    """Put untrained LoRA on the text decoder; gives its parameters."""
    from peft import LoraConfig, get_peft_model

    decoder = {id(module) for module in backbone.decoder.modules()}
    names = [
        name
        for name, module in backbone.hf.named_modules()
        if id(module) in decoder and name.rsplit(".", 1)[-1] in PROJECTIONS
    ]
    needed = [(parameter, parameter.requires_grad) for parameter in backbone.hf.parameters()]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(
            backbone.hf, LoraConfig(r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules=names)
        )
    try:
        yield [parameter for parameter in model.parameters() if parameter.requires_grad]
    finally:
        model.unload()
        for parameter, before in needed:
            parameter.requires_grad_(before)


def prefix_peer(
    backbone: Any,
    demonstrations: Sequence[Demonstration],
    stored_bytes: int,
    fit: Fit = PREFIX_FIT,
) -> Peer:
    """Train keys and values of as many tokens as fit `stored_bytes`."""
    started = time.perf_counter()
    peer = untrained_prefix(backbone, demonstrations, stored_bytes)
    trained = [tensor for pair in peer.prefix for tensor in pair]
    for _ in train(backbone, demonstrations, trained, fit, peer.prefix, peer.next_position):
        pass
    peer.seconds = time.perf_counter() - started
    return peer


def untrained_prefix(
    backbone: Any, demonstrations: Sequence[Demonstration], stored_bytes: int
) -> Peer:
    """Take the first tokens of the demonstrations' own cache; they are trained in float32."""
    full = build(backbone, demonstrations, recipe="full")
    layers = [layer for layer in full.core if layer is not None]
    token_bytes = sum(2 * layer.keys[:, :1].nbytes for layer in layers)
    tokens = max(1, min(stored_bytes // token_bytes, len(full.tokens)))
    prefix = [
        (
            layer.keys[None, :, :tokens].float().clone().requires_grad_(),
            layer.values[None, :, :tokens].float().clone().requires_grad_(),
        )
        for layer in layers
    ]
    return Peer(
        "prefix",
        stored_bytes=tokens * token_bytes,
        prefix=prefix,
        next_position=int(full.tokens.positions[:, :tokens].max()) + 1,
    )
