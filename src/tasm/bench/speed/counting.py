"""Speed rows that are counted, not timed: operations of a decode step, bytes that a build holds.

The same on every machine: what torch dispatches while one token is read, and the storages that are
alive at once while a memory is built. Knows nothing of clocks.
"""

import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import DynamicCache

from tasm.backbone.geometry import position_rows
from tasm.bench.speed.bench import FULL, Bench
from tasm.bench.speed.decoding import SHUT
from tasm.bench.speed.figures import PEAK_LENGTHS
from tasm.bench.speed.subjects import noise_demonstrations, noise_query, stock_twin
from tasm.compress.api import build
from tasm.compress.chunks import chunk_edges

CHUNK = 256
"""Tokens that these builds read at a time: few, so that what reading holds is no part of a peak."""


def decode_ops_over_stock(bench: Bench, gate: str) -> float:
    """Return the operations that a decode step dispatches beside a memory over those beside a
    stock cache; any `gate` is asked and never opens."""
    return decode_ops(bench, gate) / decode_ops(bench, None)


def decode_ops(bench: Bench, gate: str | None) -> int:
    """Return the operations of one decode step after a query, beside the memory of `tasm`, or
    beside a stock cache where `gate` is None.

    ```python
    decode_ops(Bench("reference"), "never") / 6          # a layer
    ```
    """
    backbone = bench.backbone
    inputs = backbone.query_inputs([noise_query()], layout=bench.memory.layout)
    hf, cache = bench.stock.hf, None
    if gate is None:
        cache = DynamicCache(config=hf.config.get_text_config(decoder=True))
    else:
        hf = backbone.hf
        cache = bench.memory.cache(
            device=backbone.device, dtype=backbone.dtype, gate=gate, epsilon=SHUT
        )
    token = torch.ones(1, 1, dtype=torch.long, device=backbone.device)
    options: dict[str, Any] = {"past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
    with torch.inference_mode():
        hf(**inputs, **options)
        hf(input_ids=token, **options)  # what is made once is made
        return operations(lambda: hf(input_ids=token, **options))


def operations(work: Callable[[], object]) -> int:
    """Return how many operations torch dispatches while `work` runs.

    ```python
    >>> operations(lambda: torch.ones(3).add(1))
    2
    ```
    """
    with _Operations() as counted:  # type: ignore[no-untyped-call]
        work()
    return counted.number


def peak_bytes_per_token(bench: Bench, recipe: str, demonstrations: int) -> float:
    """Return the most bytes of tensors alive at once while a memory is built, above what lay there
    before, by the tokens of its transcript."""
    counted = counted_build(bench, recipe, demonstrations)
    return counted.peak / counted.tokens


def build_ops_over_prefill(bench: Bench, recipe: str) -> float:
    """Return the operations that a build of the largest number of demonstrations dispatches, over
    those of the full context's, which reads in the same chunks and chooses nothing."""
    ours, full = (counted_build(bench, name, PEAK_LENGTHS[-1]) for name in (recipe, "full"))
    return ours.operations / full.operations


@dataclass(frozen=True)
class Counted:
    """Of a build: the most bytes of tensors alive at once, the tokens of its transcript, and the
    operations that torch dispatched."""

    peak: int
    tokens: int
    operations: int


def counted_build(bench: Bench, recipe: str, demonstrations: int) -> Counted:
    """Return `count_build` of the bench's shallow model, counted once."""
    counted = bench.counted_builds
    if (recipe, demonstrations) not in counted:
        counted[recipe, demonstrations] = count_build(
            bench.shallow, recipe, demonstrations, bench.scale.long_words
        )
    found: Counted = counted[recipe, demonstrations]
    return found


def count_build(
    backbone: Any, recipe: str, demonstrations: int, words: int = FULL.long_words
) -> Counted:
    """Return what a build holds and dispatches.

    Demonstrations are long and few: as many tokens, with less to count.
    """
    given = noise_demonstrations(demonstrations, words)
    options: dict[str, Any] = {"recipe": recipe, "chunk_tokens": CHUNK, "notice": None}
    return _counted(lambda: build(backbone, given, **options), len(backbone.transcript(given)))


def _counted(work: Callable[[], object], tokens: int) -> Counted:
    gc.collect()
    gc.freeze()  # looking through what is there each time would take as long as a build
    with _Held() as held:
        work()
    return Counted(held.most, tokens, held.number)


def growth(shorter: Counted, longer: Counted) -> float:
    """Return the bytes by which a peak grows with every token."""
    return (longer.peak - shorter.peak) / (longer.tokens - shorter.tokens)


def count_stock(backbone: Any, demonstrations: int, words: int = FULL.long_words) -> Counted:
    """Return what the stock model and cache hold and dispatch that read what `count_build` reads,
    chunk by chunk as a build does."""
    given = noise_demonstrations(demonstrations, words)
    stock = stock_twin(backbone)
    config = stock.hf.config

    @torch.inference_mode()
    def read() -> None:
        transcript = backbone.transcript(given)
        cache = DynamicCache(config=config.get_text_config(decoder=True))
        for begin, stop in chunk_edges(transcript.spans, CHUNK):
            inputs = stock.transcript_inputs([transcript.chunk(begin, stop)])
            del inputs["attention_mask"]  # of the chunk alone
            first = cache.get_seq_length()
            index = torch.arange(first, first + inputs["input_ids"].shape[1])
            inputs["position_ids"] = index.expand(position_rows(config), 1, -1)
            stock.hf(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)

    return _counted(read, len(backbone.transcript(given)))


def peak_growth_over_full(bench: Bench, recipes: Sequence[str]) -> float:
    """Return how much faster than that of a stock cache, filled chunk by chunk, the peak of that of
    `recipes` grows that grows fastest, between the two numbers of demonstrations."""

    def grows(recipe: str) -> float:
        return growth(*(counted_build(bench, recipe, count) for count in PEAK_LENGTHS))

    words = bench.scale.long_words
    stock = growth(*(count_stock(bench.shallow, count, words) for count in PEAK_LENGTHS))
    return max(map(grows, recipes)) / stock


def peak_tensor_bytes(work: Callable[[], object]) -> int:
    """Return the most bytes of tensors, made while `work` runs, that are alive at once.

    ```python
    >>> peak_tensor_bytes(lambda: torch.ones(1000).add(1).sum())
    8000
    ```

    Counted by storages, so that a view costs nothing; what a kernel needs while it runs is not
    seen, nor is what an allocator keeps.
    """
    gc.collect()
    with _Held() as held:
        work()
    return held.most


class _Operations(TorchDispatchMode):
    """How many operations were dispatched."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += 1
        return func(*args, **(kwargs or {}))


class _Held(_Operations):
    """Bytes of the storages that operations made and that are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        for one in [result] if isinstance(result, Tensor) else tree_leaves(result):
            is_new = isinstance(one, Tensor) and _address(one) not in self._known
            if is_new and not any(_shares(one, it) for it in tree_leaves((args, kwargs))):
                self._note(one)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        self._known[address] = size
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, address)

    def _forget(self, address: int) -> None:
        self.now -= self._known.pop(address)


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _shares(tensor: Tensor, given: Any) -> bool:
    return isinstance(given, Tensor) and _address(given) == _address(tensor)
