"""The latent bank: unaltered originals of tokens outside the core, searched by a query.

The scan is exact and runs in chunks, so that its memory stays bounded whatever the bank holds.
Knows neither gates nor files: a layer is anything that hands out blocks of keys and chosen rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tasm.memory.layer import LayerTokens
from tasm.memory.retrieval.bank_layer import BankLayer, HeldLayer
from tasm.memory.retrieval.granularity import Granularity
from tasm.memory.retrieval.index.layer import LayerIndex
from tasm.memory.retrieval.key_blocks import Search, rows_in_order

_SCAN_ELEMENTS = 1 << 23  # keys converted to float32 at a time: 32 MiB


@dataclass(frozen=True, eq=False)
class Retrieved:
    """What a search brought, best first.

    Attributes:
        keys: (batch, kv_heads, k, head_dim), as they were stored.
        values: (batch, kv_heads, k, head_dim).
        index: (batch, kv_heads, k), places in the transcript.
        missing: (kv_heads, k) true where a head's bank holds fewer than k tokens; or None.
    """

    keys: Tensor
    values: Tensor
    index: Tensor
    missing: Tensor | None = None


Layers = Sequence[LayerTokens | BankLayer | None]


Indexes = Callable[[int], LayerIndex | None]
"""The index of a layer that has one, by its number."""


def _no_index(layer: int) -> None:
    return None


class Bank:
    """Unaltered originals per layer and KV head.

    ```python
    bank = Bank([LayerTokens(keys, values, index), None])      # the second layer has no bank
    found = bank.search(layer=0, query=query, k=96)            # query (batch, kv_heads, head_dim)
    ```

    Args:
        layers: one entry a model layer, None where nothing is banked; or a function that opens them
            when they are first asked for.
        index: of a layer, where it has one, whose tokens lie in its order.
    """

    def __init__(self, layers: Layers | Callable[[], Layers], index: Indexes = _no_index) -> None:
        self._layers = layers
        self.index = index

    @cached_property
    def layers(self) -> tuple[BankLayer | None, ...]:
        """One entry a model layer, None where nothing is banked."""
        layers = self._layers() if callable(self._layers) else self._layers
        return tuple(
            HeldLayer(layer) if isinstance(layer, LayerTokens) else layer for layer in layers
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Bank":
        return self  # never written, so a copy of a cache may share it

    @property
    def nbytes(self) -> int:
        """Bytes of every tensor of the bank, wherever they lie (on disk: as they are stored)."""
        return sum(layer.nbytes for layer in self.layers if layer is not None)

    def _banked(self, layer: int) -> BankLayer:
        tokens = self.layers[layer]
        if tokens is None:
            raise IndexError(f"layer {layer} has no bank")
        return tokens

    def search(
        self, layer: int, query: Tensor, k: int, granularity: Granularity | None = None
    ) -> Retrieved:
        """The `k` tokens with the largest q·k per row and KV head, equation (16): an exact scan, or
        through the layer's index where it has one, among the keys that promise most.

        ```python
        found = bank.search(layer=3, query=query, k=96)
        found.index        # (batch, kv_heads, 96) places in the transcript
        ```

        Args:
            layer: a layer that has a bank.
            query: (batch, kv_heads, head_dim), rotated, on the layer's device; or (batch, kv_heads,
                group, head_dim), where the largest q·k of a group counts.
            k: how many; at most as many as the fullest head holds.
            granularity: what a token brings with it; None for nothing.

        Raises:
            DamageError: a block of the bank on disk is not what was written.
        """
        tokens = self._banked(layer)
        asked = query.to(tokens.device, torch.float32)
        index = self.index(layer) if granularity is None else None
        if index is not None:
            by_group = asked if asked.ndim == 4 else asked[:, :, None]
            rows, missing = index.best_rows(by_group, k, tokens.keys_at)
        else:
            rows, missing = best_rows(tokens, asked, k, granularity, layer)
        return Retrieved(*tokens.take(rows), missing=missing)

    def weight(self, layer: int, query: Tensor, scaling: float) -> Tensor:
        """Log-sum-exp of the logits that `query` gives the bank, by query head: an exact scan.

        ```python
        bank.weight(3, query, scaling) - core        # nats by which the bank outweighs the core
        ```

        Args:
            layer: a layer that has a bank.
            query: (batch, kv_heads, group, head_dim), rotated, on the layer's device.
            scaling: factor of the logits.

        Returns:
            (batch, kv_heads, group) float32; -inf for a head whose bank is empty.

        Raises:
            DamageError: a block of the bank on disk is not what was written.
        """
        tokens = self._banked(layer)
        asked = query.to(tokens.device, torch.float32) * scaling
        weights = [products.logsumexp(-1) for _, products in _products(tokens, asked)]
        weight = weights[0] if len(weights) == 1 else torch.stack(weights).logsumexp(0)
        kv_heads, batch, group = query.shape[1], query.shape[0], query.shape[2]
        return weight[None] if batch == 1 else weight.view(kv_heads, batch, group).transpose(0, 1)


def best_rows(
    layer: BankLayer,
    query: Tensor,
    k: int,
    granularity: Granularity | None = None,
    number: int = 0,
) -> tuple[Tensor, Tensor | None]:
    """Row numbers (batch, kv_heads, k) of what to retrieve, best first, and which of them are
    missing ((kv_heads, k); None where every head holds at least k). `number` is the layer's."""
    counts = layer.counts
    k = min(k, max(counts))
    if granularity is None:
        rows = _top_rows(layer, query, k)
    elif query.ndim == 4:
        rows = _earliest(layer, query, k, granularity, number)
    else:
        rows, _ = _chosen(layer, query, k, granularity, number)
    if min(counts) >= k:
        return rows, None
    missing = _past_the_end(counts, torch.arange(k, device=rows.device))
    return rows.masked_fill(missing, 0), missing


def _chosen(
    layer: BankLayer, query: Tensor, k: int, granularity: Granularity, number: int
) -> tuple[Tensor, Tensor]:
    """The rows that a granularity takes, and q·k of all (batch, kv_heads, tokens)."""
    scores = torch.cat([scores for _, scores in _scan(layer, query)], -1)
    search = Search(number, query, lambda: layer.block(0, max(layer.counts)).float())
    return granularity.choose(scores, layer.indices(), k, search), scores


def _earliest(
    layer: BankLayer, query: Tensor, k: int, granularity: Granularity, number: int
) -> Tensor:
    """Every query head of a group chooses for itself; what comes earliest in any of their choices
    is taken."""
    batch, _, group, _ = query.shape
    heads = query.transpose(1, 2).flatten(0, 1)
    rows, scores = _chosen(layer, heads, k, granularity, number)
    places = torch.arange(rows.shape[-1], device=rows.device).expand_as(rows)
    late = torch.full_like(scores, rows.shape[-1], dtype=places.dtype)
    ranks = late.scatter(-1, rows, places).unflatten(0, (batch, group)).amin(1)
    return rows_in_order(-ranks.float(), scores.unflatten(0, (batch, group)).amax(1), k)


def _past_the_end(counts: tuple[int, ...], rows: Tensor) -> Tensor:
    """(kv_heads, rows) true past a head's count. Numbers go to a device without being waited for,
    a tensor of them would not."""
    return torch.stack([rows >= count for count in counts])


def _scan(layer: BankLayer, query: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Row numbers (tokens,) and q·k (batch, kv_heads, tokens) chunk after chunk, the largest of a
    group's; -inf past a head's end."""
    batch, kv_heads = query.shape[0], query.shape[1]
    for start, products in _products(layer, query):
        rows = torch.arange(start, start + products.shape[-1], device=query.device)
        yield rows, products.view(kv_heads, batch, -1, len(rows)).amax(2).transpose(0, 1)


def _products(layer: BankLayer, query: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The first row and q·k (kv_heads, batch x group, tokens) chunk after chunk; -inf past a
    head's end. `query` (batch, kv_heads, head_dim) or (batch, kv_heads, group, head_dim)."""
    counts, longest = layer.counts, max(layer.counts)
    kv_heads, head_dim = query.shape[1], query.shape[-1]
    chunk = max(1, _SCAN_ELEMENTS // (kv_heads * head_dim))
    by_head = query.transpose(0, 1).reshape(kv_heads, -1, head_dim)
    for start in range(0, longest, chunk):
        stop = min(start + chunk, longest)
        keys = layer.block(start, stop).float()
        products = torch.bmm(by_head, keys.transpose(1, 2))
        if min(counts) < stop:
            rows = torch.arange(start, stop, device=query.device)
            products = products.masked_fill(_past_the_end(counts, rows)[:, None], float("-inf"))
        yield start, products


def _top_rows(layer: BankLayer, query: Tensor, k: int) -> Tensor:
    """The k best rows of a scan that keeps k candidates at a time."""
    best_scores: Tensor | None = None
    best: Tensor | None = None
    for rows, scores in _scan(layer, query):
        rows = rows.expand(scores.shape)
        if best_scores is not None and best is not None:
            scores, rows = torch.cat([best_scores, scores], -1), torch.cat([best, rows], -1)
        best_scores, chosen = scores.topk(min(k, scores.shape[-1]), dim=-1)
        best = rows.gather(-1, chosen)
    if best is None:
        raise IndexError("a bank layer without tokens was searched")
    return best
