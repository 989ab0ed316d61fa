"""Retrieval inside the attention call: gate, search, and what each row has attached.

TASM (arXiv 2606.11853), equations (15) to (17), per layer and without a second pass. Knows the
core's segments and the bank; nothing of models, caches or files.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tasm.backbone.segment import UNUSED, Segment
from tasm.memory.bank import Bank
from tasm.memory.gate import (
    GateReference,
    GateSettings,
    core_distribution,
    gate_divergence,
)
from tasm.memory.granularity import Granularity
from tasm.memory.statistics import RetrievalStatistics


class Retrieval:
    """Brings bank tokens into each layer's attention when the gate opens; one per cache.

    At the first step a row is compared with the reference of the build, later with the step before.
    What was retrieved stays attached to its row and layer until a later trigger replaces it. It is
    the `extra` of a `MemoryCache`.

    Args:
        core: each layer's core as attention reads it, or None.
        bank: what may be retrieved.
        settings: the gate; "never" is not for here.
        reference: on the devices of `core`; without it the first step retrieves.
        top_k: tokens a search brings, per layer and KV head.
        granularity: what a token brings with it.
    """

    chunkable = False

    def __init__(
        self,
        core: Sequence[Segment | None],
        bank: Bank,
        settings: GateSettings,
        reference: GateReference | None,
        top_k: int,
        granularity: Granularity | None = None,
    ) -> None:
        self.core = tuple(core)
        self.bank = bank
        self.settings = settings
        self.reference = reference
        self.top_k = top_k
        self.granularity = granularity
        self.reset()

    def reset(self) -> None:
        """Drop what was retrieved, and the statistics."""
        layers = len(self.core)
        self._previous: list[Tensor | None] = [None] * layers
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers
        self._bias: list[Tensor | None] = [None] * layers
        self._begun = [False] * layers
        self.statistics = RetrievalStatistics(layers, self._attention_layers())

    def fork(self) -> "Retrieval":
        """A fresh one over the same bank."""
        return Retrieval(
            self.core, self.bank, self.settings, self.reference, self.top_k, self.granularity
        )

    @property
    def gated_layers(self) -> tuple[int, ...]:
        """Layers that may retrieve."""
        return tuple(layer for layer in range(len(self.core)) if self._is_gated(layer))

    def _attention_layers(self) -> int:
        banked = [layer is not None for layer in self.bank.layers]
        return sum(core is not None or has for core, has in zip(self.core, banked, strict=True))

    def _is_gated(self, layer: int) -> bool:
        chosen = self.settings.layers
        banked = self.bank.layers[layer]
        has_tokens = banked is not None and max(banked.counts, default=0) > 0
        return has_tokens and self.top_k > 0 and (chosen is None or layer in chosen)

    def __call__(self, layer: int, query: Tensor, scaling: float) -> Segment | None:
        """What this layer's live tokens attend to besides the core.

        Args:
            layer: the layer that asks.
            query: (batch, kv_heads, group, head_dim), rotated, each row's last live token.
            scaling: factor of the attention logits.
        """
        if not self._is_gated(layer):
            return None
        is_first = not self._begun[layer]
        self._begun[layer] = True
        divergence = self._divergence(layer, query, scaling, is_first)
        fired = self._fired(layer, divergence, is_first, query)
        self.statistics.record(
            layer, fired, divergence, self._tokens_brought(layer), is_first=is_first
        )
        searched = query.float().mean(2)
        if self._may_branch(layer):
            self._search_fired_rows(layer, searched, fired, query)
        else:
            self._search_all_rows(layer, searched, fired, query)
        return self._attached(layer)

    # ------------------------------------------------------------------ the gate

    def _divergence(
        self, layer: int, query: Tensor, scaling: float, is_first: bool
    ) -> Tensor | None:
        """(batch,) nats from the reference or the step before; None where there is neither."""
        core = self.core[layer]
        later_steps_matter = self.settings.kind == "js"
        if core is None or not (is_first or later_steps_matter):
            return None
        bias = None if core.bias is None else core.bias[0].expand(core.keys.shape[1], -1)
        now = core_distribution(query, core.keys[0], scaling, bias)
        if is_first:
            recorded = None if self.reference is None else self.reference.layers[layer]
            before = None if recorded is None else recorded[None]
        else:
            before = self._previous[layer]
        if later_steps_matter:
            self._previous[layer] = now
        return None if before is None else gate_divergence(now, before)

    def _fired(
        self, layer: int, divergence: Tensor | None, is_first: bool, query: Tensor
    ) -> Tensor:
        """(batch,) bool: which rows retrieve now."""
        if self.settings.kind == "always" or divergence is None:
            return torch.ones(query.shape[0], dtype=torch.bool, device=query.device)
        return divergence > self._threshold(layer, is_first)

    def _threshold(self, layer: int, is_first: bool) -> float:
        if self.settings.epsilon != "calibrated":
            return self.settings.epsilon
        threshold = None if self.reference is None else self.reference.threshold(layer, is_first)
        return float("-inf") if threshold is None else threshold

    # ------------------------------------------------------------------ the search

    def _tokens_brought(self, layer: int) -> float:
        """Mean tokens over the KV heads that one search of this layer brings."""
        tokens = self.bank.layers[layer]
        counts = tokens.counts if tokens is not None else (0,)
        return sum(min(self.top_k, count) for count in counts) / len(counts)

    def _may_branch(self, layer: int) -> bool:
        """Whether looking at the gate before searching costs nothing or saves a transfer: not for a
        bank on an accelerator, where it would wait for the device, and not under torch.compile."""
        tokens = self.bank.layers[layer]
        return (
            not torch.compiler.is_compiling()
            and tokens is not None
            and (tokens.device.type == "cpu")
        )

    def _search_fired_rows(
        self, layer: int, searched: Tensor, fired: Tensor, query: Tensor
    ) -> None:
        rows = fired.nonzero().flatten()
        if rows.numel() == 0:
            return
        found = self._search(layer, searched[rows], query)
        before = self._keys[layer], self._values[layer], self._bias[layer]
        batch = query.shape[0]

        def place(old: Tensor | None, new: Tensor, empty: float) -> Tensor:
            whole = new.new_full((batch, *new.shape[1:]), empty) if old is None else old
            return whole.index_copy(0, rows, new)

        self._keys[layer] = place(before[0], found[0], 0.0)
        self._values[layer] = place(before[1], found[1], 0.0)
        self._bias[layer] = place(before[2], found[2], UNUSED)

    def _search_all_rows(self, layer: int, searched: Tensor, fired: Tensor, query: Tensor) -> None:
        keys, values, bias = self._search(layer, searched, query)
        wide, narrow = fired[:, None, None, None], fired[:, None, None]
        old_keys, old_values, old_bias = self._keys[layer], self._values[layer], self._bias[layer]
        if old_keys is not None and old_values is not None and old_bias is not None:
            keys = torch.where(wide, keys, old_keys)
            values = torch.where(wide, values, old_values)
            bias = torch.where(narrow, bias, old_bias)
        else:
            bias = bias.masked_fill(~narrow, UNUSED)
        self._keys[layer], self._values[layer], self._bias[layer] = keys, values, bias

    def _search(self, layer: int, searched: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys, values (rows, kv_heads, k, head_dim) and bias (rows, kv_heads, k) for `query`'s
        device and dtype."""
        found = self.bank.search(layer, searched, self.top_k, self.granularity)
        bias = torch.zeros(found.index.shape, device=query.device)
        if found.missing is not None:
            bias = bias.masked_fill(found.missing.to(query.device), UNUSED)
        keys = found.keys.to(query.device, query.dtype)
        return keys, found.values.to(query.device, query.dtype), bias

    def _attached(self, layer: int) -> Segment | None:
        keys, values, bias = self._keys[layer], self._values[layer], self._bias[layer]
        if keys is None or values is None:
            return None
        return Segment(keys=keys, values=values, bias=bias, index=None)

    # ------------------------------------------------------------------ rows

    def reorder(self, index: Tensor) -> None:
        """Rows become `state[index]` (beam search)."""
        self._map_rows(lambda tensor: tensor.index_select(0, index.to(tensor.device)))

    def repeat(self, times: int) -> None:
        """Every row is repeated `times` times, interleaved."""
        self._map_rows(lambda tensor: tensor.repeat_interleave(times, 0))

    def select(self, index: Tensor) -> None:
        """Only the rows in `index` stay."""
        self._map_rows(lambda tensor: tensor[index.to(tensor.device)])

    def _map_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        for state in (self._previous, self._keys, self._values, self._bias):
            state[:] = [None if tensor is None else change(tensor) for tensor in state]
        self.statistics.map_rows(change)
