"""Retrieval inside the attention call: gate, search, and what each row has attached.

TASM (arXiv 2606.11853), equations (15) to (17), per layer and without a second pass. Knows the
core's segments and the bank; nothing of models, caches or files.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.segment import Segment, Weight
from tasm.memory.retrieval.attached import Attached, brought_to
from tasm.memory.retrieval.bank import Bank
from tasm.memory.retrieval.gate import GateReference, GateSettings
from tasm.memory.retrieval.gates import GATES, Gate
from tasm.memory.retrieval.granularity import Granularity
from tasm.memory.retrieval.looking import Look, hidden_slots
from tasm.memory.retrieval.statistics import RetrievalStatistics


class Retrieval:
    """Brings bank tokens into each layer's attention when the gate opens; one per cache.

    Whether it does is for a row of the table of gates to say (`retrieval.gates`). What was
    retrieved stays attached to its row and layer until a later trigger replaces it. It is
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
        self.gate: Gate | None = GATES[settings.kind]
        self.reference = reference
        self.top_k = top_k
        self.granularity = granularity
        self._gated = [self._is_gated(layer) for layer in range(len(self.core))]
        self._looked_at: list[Any] = [None] * len(self.core)  # keys and bias
        self.reset()

    def reset(self) -> None:
        """Drop what was retrieved, and the statistics."""
        layers = len(self.core)
        self._previous: list[Tensor | None] = [None] * layers
        self._attached: list[Attached | None] = [None] * layers
        self._steps = [0] * layers
        self.statistics = RetrievalStatistics(layers, self._attention_layers())

    def fork(self) -> "Retrieval":
        """A fresh one over the same bank."""
        return Retrieval(
            self.core, self.bank, self.settings, self.reference, self.top_k, self.granularity
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Retrieval":
        """A copy goes on from the same step; core, bank and reference are shared."""
        twin = self.fork()
        twin._previous = copy.deepcopy(self._previous, memo)
        twin._attached = copy.deepcopy(self._attached, memo)
        twin._steps = list(self._steps)
        twin.statistics = copy.deepcopy(self.statistics, memo)
        return twin

    @property
    def gated_layers(self) -> tuple[int, ...]:
        """Layers that may retrieve."""
        return tuple(layer for layer, is_gated in enumerate(self._gated) if is_gated)

    def _attention_layers(self) -> int:
        banked = [layer is not None for layer in self.bank.layers]
        return sum(core is not None or has for core, has in zip(self.core, banked, strict=True))

    def _is_gated(self, layer: int) -> bool:
        chosen = self.settings.layers
        banked = self.bank.layers[layer]
        has_tokens = banked is not None and max(banked.counts, default=0) > 0
        return has_tokens and self.top_k > 0 and (chosen is None or layer in chosen)

    def __call__(
        self, layer: int, query: Tensor, scaling: float, weight: Weight | None = None
    ) -> Segment | None:
        """What this layer's live tokens attend to besides the core.

        Args:
            layer: the layer that asks.
            query: (batch, kv_heads, group, head_dim), rotated, each row's last live token.
            scaling: factor of the attention logits.
            weight: gives what attention found the core to weigh, (batch, kv_heads, group); where
                it is None a gate that wants to know works it out.
        """
        if not self._gated[layer]:
            return None
        step = self._steps[layer]
        # Counted on only where it matters: a number that grows would be compiled anew each step.
        last = self.settings.first_steps or 1
        self._steps[layer] = step + 1 if self.settings.interval > 1 else min(step + 1, last)
        if step == self.settings.first_steps:
            self.statistics.rest(layer)
        else:
            self._ask(layer, query, scaling, step, weight)
        now = self._attached[layer]
        return None if now is None else now.segment()

    def _ask(
        self, layer: int, query: Tensor, scaling: float, step: int, weight: Weight | None
    ) -> None:
        """Ask the gate, and attach what the bank has for the rows where it opens."""
        side = self._core_side(layer, query, scaling, weight, is_first=step == 0)
        may_branch, asked = self._may_branch(layer), query
        is_asked = side is not None or self._opens_unasked(step)
        if may_branch and query.device.type != "cpu" and is_asked:
            # Whatever the host wants to know comes in one copy.
            core = query.new_zeros(query.shape[0], 0) if side is None else side
            both = torch.cat([core.float(), query.flatten(1).float()], 1).cpu()
            side = None if side is None else both[:, : core.shape[1]]
            asked = both[:, core.shape[1] :].view(query.shape)
        signal = self._signal(layer, side, asked, scaling)
        fired = self._fired(layer, signal, step, asked)
        brought = self._tokens_brought(layer) if step == 0 else 0.0
        nats = signal if self.gate is not None and self.gate.compares else None
        self.statistics.record(layer, fired, nats, brought, is_first=step == 0)
        if may_branch:
            self._attach_fired_rows(layer, fired, query, asked)
        else:
            self._attach_without_waiting(layer, fired, query)

    # ------------------------------------------------------------------ the gate

    def _core_side(
        self, layer: int, query: Tensor, scaling: float, weight: Weight | None, is_first: bool
    ) -> Tensor | None:
        """(batch, n), what the gate makes of the core; None where it has nothing to say."""
        core = self.core[layer]
        if core is None or self.gate is None:
            return None
        if self._looked_at[layer] is None:
            core = core.as_live(query)
            bias = None if core.bias is None else core.bias[0].expand(core.keys.shape[1], -1)
            hidden = None if bias is None else hidden_slots(bias)
            self._looked_at[layer] = (core.keys[0], bias, hidden)
        keys, bias, hidden = self._looked_at[layer]
        before = self._previous[layer]
        if is_first and self.reference is not None:
            recorded = self.reference.layers[layer]
            before = None if recorded is None else recorded[None].to(query.device)
        look = Look(query, keys, scaling, bias, hidden, before, weight)
        if self.gate.compares:
            self._previous[layer] = look.distribution()
        return self.gate.core_side(look)

    def _opens_unasked(self, step: int) -> bool:
        """Whether a step opens where no gate says anything: the first, and those that are due."""
        is_due = self.settings.kind == "always" and step % self.settings.interval == 0
        return step == 0 or is_due

    def _signal(
        self, layer: int, side: Tensor | None, query: Tensor, scaling: float
    ) -> Tensor | None:
        """(batch,) nats of the gate; None where there is nothing to go by."""
        if self.gate is None or side is None:
            return None
        return self.gate.signal(side, lambda: self.bank.weight(layer, query, scaling))

    def _fired(self, layer: int, signal: Tensor | None, step: int, query: Tensor) -> Tensor:
        """(batch,) bool: which rows retrieve now."""
        if signal is None:
            opens = self._opens_unasked(step)
            return torch.full((query.shape[0],), opens, device=query.device)
        return signal > self._threshold(layer, step == 0)

    def _threshold(self, layer: int, is_first: bool) -> float:
        if self.settings.epsilon != "calibrated":
            return self.settings.epsilon
        measured = None
        if self.reference is not None and self.settings.is_calibrated:
            measured = self.reference.threshold(layer, is_first)
        assert self.gate is not None
        return self.gate.threshold if measured is None else measured

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
            not torch.compiler.is_compiling() and tokens is not None and tokens.device.type == "cpu"
        )

    def _attach_fired_rows(self, layer: int, opens: Tensor, query: Tensor, asked: Tensor) -> None:
        """Search for the rows that fired; `opens` and `asked`, the query, lie on the host."""
        batch = query.shape[0]
        if batch == 1:
            if bool(opens):
                self._attached[layer] = self._search(layer, query, self._asked(asked))
            return
        if not bool(opens.any()):
            return
        chosen = opens.nonzero().flatten()
        found = self._search(layer, query, self._asked(asked[chosen]))
        before = self._attached[layer] or found.nothing(batch)
        self._attached[layer] = before.with_rows(brought_to(chosen, query.device), found)

    def _attach_without_waiting(self, layer: int, fired: Tensor, query: Tensor) -> None:
        found, before = self._search(layer, query, self._asked(query)), self._attached[layer]
        self._attached[layer] = found.where(fired, before)

    def _asked(self, query: Tensor) -> Tensor:
        """What each KV head searches with, float32: (batch, kv_heads, head_dim) or with a group."""
        asked = query.float()
        return asked if self.settings.asking == "each" else asked.mean(2)

    def _search(self, layer: int, query: Tensor, asked: Tensor) -> Attached:
        """What the bank has for `asked`, which `_asked` made of a query, on `query`'s device and in
        its dtype."""
        found = self.bank.search(layer, asked, self.top_k, self.granularity)
        return Attached.of(found, query)

    # ------------------------------------------------------------------ rows

    def map_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        """Reorder, repeat or select rows."""
        self._previous = [None if shares is None else change(shares) for shares in self._previous]
        self._attached = [
            None if layer is None else layer.changed(change) for layer in self._attached
        ]
        self.statistics.map_rows(change)
