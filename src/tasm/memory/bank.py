"""The latent bank: unaltered originals of tokens outside the core, searched by a query.

The scan is exact and runs in chunks, so that its memory stays bounded whatever the bank holds.
Knows neither gates nor files: a layer is anything that hands out blocks of keys and chosen rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tasm.backbone.segment import UNUSED, Segment
from tasm.memory.layer import LayerTokens

_SCAN_ELEMENTS = 1 << 23  # keys converted to float32 at a time: 32 MiB


class BankLayer(Protocol):
    """One layer of a bank, wherever it lies: on a device, in host memory or on disk."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Tokens of each KV head."""

    @property
    def device(self) -> torch.device:
        """Where `block` and `take` put what they return."""

    def block(self, start: int, stop: int) -> Tensor:
        """Keys (kv_heads, stop - start, head_dim) of that range; padding past a head's count."""

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys, values (batch, kv_heads, k, head_dim) and index (batch, kv_heads, k) of `rows`
        (batch, kv_heads, k), row numbers within each head."""

    def held(self) -> LayerTokens:
        """The whole layer in memory."""


@dataclass(frozen=True)
class HeldLayer:
    """A bank layer in memory, on any device."""

    tokens: LayerTokens

    @property
    def counts(self) -> tuple[int, ...]:
        """Tokens of each KV head."""
        return self.tokens.counts

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.tokens.keys.device

    def block(self, start: int, stop: int) -> Tensor:
        """Keys of a range, a view."""
        return self.tokens.keys[:, start:stop]

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys, values and index of chosen rows."""
        heads = torch.arange(self.tokens.kv_heads, device=rows.device)[None, :, None]
        tokens = self.tokens
        return tokens.keys[heads, rows], tokens.values[heads, rows], tokens.index[heads, rows]

    def held(self) -> LayerTokens:
        """The tokens themselves."""
        return self.tokens


@dataclass(frozen=True)
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

    def segment(self) -> Segment:
        """The same as attention reads it."""
        bias = None
        if self.missing is not None:
            zeros = torch.zeros(self.missing.shape, device=self.keys.device)
            bias = zeros.masked_fill(self.missing, UNUSED)[None]
        return Segment(keys=self.keys, values=self.values, bias=bias, index=None)


class Bank:
    """Unaltered originals per layer and KV head.

    ```python
    bank = Bank([LayerTokens(keys, values, index), None])      # the second layer has no bank
    found = bank.search(layer=0, query=query, k=96)            # query (batch, kv_heads, head_dim)
    ```

    Args:
        layers: one entry a model layer, None where nothing is banked.
    """

    def __init__(self, layers: Sequence["LayerTokens | BankLayer | None"]) -> None:
        self.layers: tuple[BankLayer | None, ...] = tuple(
            HeldLayer(layer) if isinstance(layer, LayerTokens) else layer for layer in layers
        )

    @property
    def nbytes(self) -> int:
        """Bytes of every tensor of the bank, wherever they lie (on disk: as they are stored)."""
        return sum(_layer_bytes(layer) for layer in self.layers if layer is not None)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Bank":
        """The same bank held in memory on `device`; a bank on disk is read and checked whole."""
        return Bank(
            [None if layer is None else layer.held().to(device, dtype) for layer in self.layers]
        )

    def search(self, layer: int, query: Tensor, k: int) -> Retrieved:
        """The `k` tokens with the largest q·k per row and KV head: an exact scan, equation (16).

        Args:
            layer: a layer that has a bank.
            query: (batch, kv_heads, head_dim), rotated, on the layer's device.
            k: how many; at most as many as the fullest head holds.

        Raises:
            DamageError: a block of the bank on disk is not what was written.
        """
        tokens = self.layers[layer]
        if tokens is None:
            raise IndexError(f"layer {layer} has no bank")
        rows, missing = top_rows(tokens, query.to(tokens.device, torch.float32), k)
        return Retrieved(*tokens.take(rows), missing=missing)


def top_rows(layer: BankLayer, query: Tensor, k: int) -> tuple[Tensor, Tensor | None]:
    """Row numbers (batch, kv_heads, k) of the best keys, best first, and which of them are missing
    ((kv_heads, k), None where every head holds at least k)."""
    batch, kv_heads, head_dim = query.shape
    counts = layer.counts
    longest = max(counts)
    k = min(k, longest)
    chunk = max(k, _SCAN_ELEMENTS // (kv_heads * head_dim))
    query = query.transpose(0, 1)
    best_scores = query.new_empty(batch, kv_heads, 0)
    best_rows = torch.empty(batch, kv_heads, 0, dtype=torch.int64, device=query.device)
    for start in range(0, longest, chunk):
        stop = min(start + chunk, longest)
        keys = layer.block(start, stop).float()
        scores = torch.matmul(query, keys.transpose(1, 2)).transpose(0, 1)
        rows = torch.arange(start, stop, device=query.device)
        if min(counts) < stop:
            lengths = torch.tensor(counts, device=query.device)[:, None]
            scores = scores.masked_fill(rows >= lengths, float("-inf"))
        scores = torch.cat([best_scores, scores], -1)
        best_rows = torch.cat([best_rows, rows.expand(batch, kv_heads, -1)], -1)
        best_scores, chosen = scores.topk(min(k, scores.shape[-1]), dim=-1)
        best_rows = best_rows.gather(-1, chosen)
    if min(counts) >= k:
        return best_rows, None
    missing = torch.arange(k, device=query.device) >= torch.tensor(counts, device=query.device)[:, None]
    return best_rows.masked_fill(missing, 0), missing


def _layer_bytes(layer: BankLayer) -> int:
    if isinstance(layer, HeldLayer):
        return layer.tokens.nbytes
    return int(layer.nbytes)  # type: ignore[attr-defined]
