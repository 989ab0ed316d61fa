"""A cache over a memory: its tensors placed, its gate set, its bank where it is best searched.

Knows memories and caches; nothing of queries or files.
"""

from dataclasses import replace
from typing import Any, Literal, get_args

import torch

from tasm.arguments import GateKind, one_of
from tasm.backbone.attention.cache import MemoryCache
from tasm.errors import InputError, first_line
from tasm.memory.described import DescribedMemory
from tasm.memory.placement import Devices, Placed, Placement, Unpack
from tasm.memory.retrieval.gate import GateReference, GateSettings
from tasm.memory.retrieval.granularity import make_granularity
from tasm.memory.retrieval.in_attention import Retrieval

BankOn = Literal["auto", "device", "host"]
Epsilon = float | Literal["calibrated"]


def open_cache(
    memory: DescribedMemory,
    placement: Placement,
    device: Devices,
    dtype: torch.dtype | None,
    gate: GateKind | None,
    epsilon: Epsilon | None,
    bank_on: BankOn,
    live_tokens: int | None,
    unpack: Unpack = "once",
) -> MemoryCache:
    """Return a fresh cache; see `TaskMemory.cache`."""
    _check(device, dtype, live_tokens)
    one_of(bank_on, "bank_on", get_args(BankOn))
    one_of(unpack, "unpack", get_args(Unpack))
    settings, reference = memory.gate, memory.reference
    if gate is not None:  # asked at every step; a threshold that was recorded is of its own gate
        own = settings.epsilon if gate == settings.kind else "calibrated"
        if gate != settings.kind:  # and so is what was measured
            reference = None
        settings = replace(settings, kind=gate, epsilon=own, first_steps=None)
    if epsilon is not None:
        settings = replace(settings, epsilon=epsilon)
    placed = placement.core(memory.contents.core, device, dtype, unpack)
    cache = MemoryCache.from_segments(
        memory.geometry,
        [None if segment is None else [segment] for segment in placed.segments],
        next_position=memory.next_position,
        logical_length=memory.logical_length,
        extra=_retrieval(memory, placement, settings, reference, placed, device, dtype, bank_on),
        states=placed.states,
        live_tokens=live_tokens,
        transcript=memory.report.get("transcript"),
    )
    cache.made_for = memory.identity
    return cache


def _retrieval(
    memory: DescribedMemory,
    placement: Placement,
    settings: GateSettings,
    reference: GateReference | None,
    placed: Placed,
    device: Devices,
    dtype: torch.dtype | None,
    bank_on: BankOn,
) -> Retrieval | None:
    if memory.bank is None or settings.kind == "never":
        return None
    if reference is not None:
        reference = replace(reference, layers=placed.distributions)
    retrieval = Retrieval(
        placed.segments,
        placement.bank(memory.bank, device, dtype, bank_on),
        settings,
        reference,
        settings.tokens_to_retrieve(memory.tokens.demonstration_tokens),
        make_granularity(settings.granularity, memory.tokens),
    )
    return retrieval if retrieval.gated_layers else None


def _check(device: Devices, dtype: Any, live_tokens: Any) -> None:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(
            f"dtype is {dtype!r}; expected what the model runs in, such as torch.bfloat16."
        )
    if live_tokens is not None and (
        not isinstance(live_tokens, int) or isinstance(live_tokens, bool) or live_tokens < 1
    ):
        raise InputError(
            f"live_tokens is {live_tokens!r}; expected as many tokens as question and answer take, "
            "or None for a live part that grows."
        )
    if device is None:
        return
    for one in [device] if isinstance(device, torch.device | str) else device:
        try:
            torch.empty(0, device=one)
        except (RuntimeError, AssertionError, TypeError) as reason:
            raise InputError(
                f"device is {one!r}, which cannot be used here: {first_line(reason)}"
            ) from None
