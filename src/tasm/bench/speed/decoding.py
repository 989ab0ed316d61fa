"""Speed rows about decoding: a step beside a memory, beside the stock cache, with the gate shut."""

from collections.abc import Callable
from typing import Any

import torch

from tasm.bench.speed.bench import Bench
from tasm.bench.speed.clock import time_ratio
from tasm.bench.speed.subjects import decode_steps, memory_cache, noise_query, stock_cache

STEPS = 4
MEMORY_SHARE = 0.2
SHUT = 1e9
"""A threshold in nats that no divergence reaches."""

BATCH = 8


def decode_over_stock(bench: Bench) -> float:
    """Return a decode step beside a memory of 4k tokens over one on a stock cache of 4k tokens."""
    return _against(
        bench,
        _stepper(bench.backbone.hf, memory_cache(bench.backbone, bench.scale.tokens)),
        _stepper(bench.stock.hf, stock_cache(bench.backbone, bench.scale.tokens)),
    )


def decode_full_over_memory(bench: Bench, tokens: int) -> float:
    """Return a decode step on the full context over one beside a memory of 20 %."""
    kept = int(MEMORY_SHARE * tokens)
    return _against(
        bench,
        _stepper(bench.stock.hf, stock_cache(bench.backbone, tokens)),
        _stepper(bench.backbone.hf, memory_cache(bench.backbone, kept)),
    )


def batch8_expanded_over_shared(bench: Bench) -> float:
    """Return a step of 8 rows on an expanded stock cache over one beside a shared memory."""
    return _against(
        bench,
        _stepper(bench.stock.hf, stock_cache(bench.backbone, bench.scale.tokens, BATCH), BATCH),
        _stepper(bench.backbone.hf, memory_cache(bench.backbone, bench.scale.tokens), BATCH),
    )


def decode_growth(bench: Bench) -> float:
    """Return a decode step beside a memory of ten times the demonstrations over one time's."""
    return _against(
        bench, _asked(bench, bench.streamed("grown")), _asked(bench, bench.streamed("small"))
    )


def gate_over_decode(bench: Bench) -> float:
    """Return what the memory's own gate, where it never opens, adds to a decode step, as a share of
    the step."""
    gated = _asked(bench, bench.memory, epsilon=SHUT)
    return _against(bench, gated, _asked(bench, bench.memory, gate="never")) - 1


def _against(bench: Bench, first: Callable[[], Any], second: Callable[[], Any]) -> float:
    with torch.inference_mode():
        return time_ratio(
            first,
            second,
            device=bench.device,
            rounds=bench.scale.rounds,
            seconds=bench.scale.seconds,
            warm_up=min(2, bench.scale.rounds),
        )


def _stepper(hf: Any, cache: Any, batch: int = 1) -> Callable[[], None]:
    return lambda: decode_steps(hf, cache, STEPS, batch)


def _asked(bench: Bench, memory: Any, **gate: Any) -> Callable[[], None]:
    """Steps after a query has been read, as in an answer."""
    backbone = bench.backbone
    cache = memory.cache(device=backbone.device, dtype=backbone.dtype, **gate)
    inputs = backbone.query_inputs([noise_query()], layout=memory.layout)
    with torch.inference_mode():
        backbone.hf(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return _stepper(backbone.hf, cache)
