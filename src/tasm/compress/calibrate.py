"""Teaching the gate: how the demonstrations' own answer queries look at the reduced core.

Each query is asked again as if it came after the memory, with its own demonstration masked. The
mean of these distributions is the reference; a quantile of their divergences from it is the
threshold. Which quantile is measured too: as many of these queries find too little in the core,
that many lie above it. A gate that weighs core and bank compares with no reference: by how much the
bank outweighs the core for these queries says its thresholds.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from tasm.arguments import GateKind
from tasm.backbone.attention.kernels import numbers_at_once
from tasm.backbone.attention.rotary import Rotary
from tasm.backbone.attention.segment import UNUSED
from tasm.compress.prefill import Compressed
from tasm.compress.records.queries import Kept, Queries
from tasm.compress.records.recorder import Recorder
from tasm.memory.layer import LayerTokens
from tasm.memory.retrieval.gate import GateReference
from tasm.memory.retrieval.gates import gate_divergence
from tasm.memory.retrieval.looking import core_distribution
from tasm.memory.tokens import TokenTable

AT_MOST = 64
"""Demonstrations that calibrate; of more, every n-th."""

STEPS = 3
"""Steps of an answer that calibrate: the first, and two that compare with the step before."""

MISSED = 0.1
"""Share of a query's attention on what the core left out, above which it needs the bank."""

SHUT = 0.75
"""Share of pairs of a layer and a query that a gate which weighs core and bank leaves shut."""

LARGEST_DIVERGENCE = 0.6931471805599453
"""ln 2: no divergence is above it, so this threshold never fires."""


def gate_queries(demonstrations: int | None) -> Queries:
    """Return the record of the queries that calibration needs: those that say the answers' first
    tokens; None where nobody knows yet how many demonstrations come."""
    if demonstrations is None:
        return Queries("predictions", run=STEPS, at_most=AT_MOST)
    return Queries("predictions", max(1, -(-demonstrations // AT_MOST)), run=STEPS)


def calibrate(
    compressed: Compressed,
    recorder: Recorder,
    record: Queries,
    spans: Sequence[tuple[int, int]],
    rotary: Rotary,
    gate: GateKind,
    quantile: float | Literal["need"],
) -> GateReference:
    """Return reference and thresholds of a `gate`, by layer; of "missing" as `thresholds_by_need`
    says. Of "js":

    `quantile` is the share of the demonstrations' divergences below a threshold, or "need": the
    share of them that give the bank at most `MISSED` of what they give both, in each layer; at most
    0.9, so that a query unlike all of them still opens the gate.

    `recorder` has heard `record`, one of `gate_queries`; `spans` says where every demonstration
    lies in the transcript. With a single demonstration nothing is left to compare with, and the
    gate never opens.
    """
    found = {layer: held.get(record) for layer, held in recorder.held.items()}
    asked = {layer: queries for layer, queries in found.items() if queries is not None}
    return taught(compressed, asked, recorder.scalings, spans, rotary, gate, quantile)


def taught(
    compressed: Compressed,
    asked_of: Mapping[int, Kept],
    scalings: Mapping[int, float],
    spans: Sequence[tuple[int, int]],
    rotary: Rotary,
    gate: GateKind,
    quantile: float | Literal["need"],
) -> GateReference:
    """Return what `calibrate` does of queries that are held, by layer."""
    if gate == "missing":
        shut = SHUT if isinstance(quantile, str) else quantile
        return _weighing(compressed, asked_of, scalings, spans, rotary, shut)
    core, tokens = compressed.core, compressed.tokens
    references: list[Tensor | None] = [None] * len(core)
    first: list[float | None] = [None] * len(core)
    later: list[float | None] = [None] * len(core)
    for layer, queries in asked_of.items():
        entries = core[layer]
        if entries is None or not queries.index.numel():
            continue
        here = tokens.to(entries.keys.device)
        asked = _Asked.of(layer, queries, here, spans, rotary, compressed.next_position)
        looks = asked.looks(entries, scalings[layer])
        own = asked.own(entries, here)
        at: float
        if isinstance(quantile, str):
            missed = _missed(asked, entries, compressed.bank[layer], here, scalings[layer])
            at = min(0.9, float((missed <= MISSED).float().mean()))
        else:
            at = quantile
        references[layer], first[layer] = _first_steps(looks, own, asked, at)
        later[layer] = _later_steps(looks, asked, at)
    return GateReference(tuple(references), tuple(first), tuple(later))


def _weighing(
    compressed: Compressed,
    asked_of: Mapping[int, Kept],
    scalings: Mapping[int, float],
    spans: Sequence[tuple[int, int]],
    rotary: Rotary,
    quantile: float,
) -> GateReference:
    """Thresholds of a gate that weighs core and bank."""
    needs: dict[int, Tensor] = {}
    for layer, queries in asked_of.items():
        core, bank = compressed.core[layer], compressed.bank[layer]
        if core is None or bank is None or not queries.index.numel():
            continue
        here = compressed.tokens.to(core.keys.device)
        asked = _Asked.of(layer, queries, here, spans, rotary, compressed.next_position)
        needs[layer] = _outweighed(asked, core, bank, here, scalings[layer])
    thresholds = thresholds_by_need(needs, quantile)
    layers = range(len(compressed.core))
    return GateReference((None,) * len(layers), tuple(thresholds.get(layer) for layer in layers))


def thresholds_by_need(needs: Mapping[int, Tensor], quantile: float) -> dict[int, float]:
    """Return the thresholds in nats of layers by what demonstrations need there, (rows,) each: how
    far the bank outweighs the core, in the head that misses most.

    The `quantile` of all layers' needs together, 0 at least: so many pairs of a layer and a query
    stay shut. In a layer where half of the queries or more are above it, that is 0: it opens where
    the bank outweighs the core at all. A layer in which nobody needs anything has none.

    ```python
    >>> thresholds_by_need({0: torch.tensor([-2.0, 1.0]), 3: torch.tensor([4.0, 6.0])}, 0.5)
    {0: 2.5, 3: 0.0}
    ```
    """
    told = {layer: need for layer, need in needs.items() if bool(need.isfinite().any())}
    if not told:
        return {}
    every = torch.cat([need[need.isfinite()].float().cpu() for need in told.values()])
    most = max(0.0, _quantile(every, quantile))
    return {
        layer: 0.0 if float((need > most).float().mean()) >= 0.5 else most
        for layer, need in told.items()
    }


class _Asked:
    """Queries (rows, kv_heads, group, head_dim) as they would stand after the memory."""

    def __init__(self, queries: Tensor, demonstration: Tensor, starts: Tensor) -> None:
        self.queries, self.demonstration, self.starts = queries, demonstration, starts

    @classmethod
    def of(
        cls,
        layer: int,
        kept: Kept,
        tokens: TokenTable,
        spans: Sequence[tuple[int, int]],
        rotary: Rotary,
        next_position: int,
    ) -> "_Asked":
        index = kept.index
        demonstration = tokens.demonstration[index].long()
        begins = torch.tensor([start for start, _ in spans], device=index.device)[demonstration]
        positions = tokens.positions.long()
        moved = positions[:, index] - positions[:, begins].amin(0) + next_position
        rotated = rotary.rotate(layer, kept.queries, moved)
        starts = torch.ones_like(index, dtype=torch.bool)
        starts[1:] = index[1:] != index[:-1] + 1
        return cls(rotated.transpose(0, 1).contiguous(), demonstration, starts)

    def own(self, entries: LayerTokens, tokens: TokenTable) -> Tensor:
        """(rows, kv_heads, entries) bool: entries of the row's own demonstration."""
        of = tokens.demonstration[entries.index.long()].long()
        return of == self.demonstration[:, None, None]

    def weight_of(self, entries: LayerTokens, tokens: TokenTable, scaling: float) -> Tensor:
        """(rows, kv_heads, group) log-sum-exp over the entries of other demonstrations."""
        own, keys, weights = self.own(entries, tokens), entries.keys.float(), []
        for rows, queries in self._blocks(entries):
            logits = torch.einsum("rhgd,hed->rhge", queries.float(), keys).mul_(scaling)
            if entries.logit_bias is not None:
                logits += entries.logit_bias.float()[:, None]
            weights.append(logits.masked_fill_(own[rows, :, None], -torch.inf).logsumexp(-1))
        return torch.cat(weights)

    def looks(self, entries: LayerTokens, scaling: float) -> Tensor:
        """(rows, kv_heads, entries) distributions over the core."""
        keys = entries.keys.float()
        return torch.cat(
            [
                core_distribution(queries, keys, scaling, entries.logit_bias)
                for _, queries in self._blocks(entries)
            ]
        )

    def _blocks(self, entries: LayerTokens) -> Iterator[tuple[slice, Tensor]]:
        """Queries (rows, kv_heads, group, head_dim) of a few rows at a time, whose logits take no
        more room than the layer's keys, or than fills an accelerator."""
        size, numbers = entries.keys.shape[-1], entries.keys.numel()
        queries = self.queries.view(len(self.starts), entries.kv_heads, -1, size)
        at_once = numbers_at_once(numbers, numbers, numbers, entries.keys.device)
        step = max(1, at_once * size // max(1, numbers * queries.shape[2]))
        for first in range(0, len(self.starts), step):
            rows = slice(first, first + step)
            yield rows, queries[rows]


def _first_steps(
    looks: Tensor, own: Tensor, asked: _Asked, quantile: float
) -> tuple[Tensor, float]:
    """The reference (kv_heads, entries), and the threshold of the first step."""
    looks, own = looks[asked.starts], own[asked.starts]
    rows = asked.demonstration[asked.starts]
    if int(rows.min()) == int(rows.max()):
        return looks.mean(0), LARGEST_DIVERGENCE
    masked = _without(looks, own)
    reference = masked.mean(0)
    # Compared as a new query would be: with a reference it has no part in. Its own demonstration,
    # which it may not look at, is left out of both.
    same = (rows[:, None] == rows).to(masked.dtype)
    theirs = masked.sum(0) - torch.einsum("rs,she->rhe", same, masked)
    others = (len(rows) - same.sum(1))[:, None, None]
    divergences = gate_divergence(masked, _without(theirs / others, own))
    return reference / reference.sum(-1, keepdim=True), _quantile(divergences, quantile)


def _later_steps(looks: Tensor, asked: _Asked, quantile: float) -> float | None:
    """The threshold of later steps, which compare with the step before; None where answers have one
    token."""
    later = (~asked.starts).nonzero()[:, 0]
    if later.numel() == 0:
        return None
    return _quantile(gate_divergence(looks[later], looks[later - 1]), quantile)


def _missed(
    asked: _Asked,
    core: LayerTokens,
    bank: LayerTokens | None,
    tokens: TokenTable,
    scaling: float,
) -> Tensor:
    """(rows,) the share of a first step's attention to core and bank that falls on the bank, of the
    head that misses most."""
    if bank is None:
        return torch.zeros(int(asked.starts.sum()))
    held = asked.weight_of(core, tokens, scaling)
    left = asked.weight_of(bank, tokens, scaling)
    return torch.sigmoid(left - held).nan_to_num(0.0).mean(-1).amax(-1)[asked.starts]


def _outweighed(
    asked: _Asked, core: LayerTokens, bank: LayerTokens, tokens: TokenTable, scaling: float
) -> Tensor:
    """(rows,) nats by which the bank outweighs the core at the first step, in the query head that
    misses most; -inf where no head holds both."""
    held = asked.weight_of(core, tokens, scaling)
    left = asked.weight_of(bank, tokens, scaling)
    # A head's padding alone weighs `UNUSED`: it holds nothing, either.
    holds_both = (held > UNUSED / 2) & (left > UNUSED / 2)
    needs = (left - held).masked_fill(~holds_both, -torch.inf)
    return needs.flatten(1).amax(1)[asked.starts]


def _without(looks: Tensor, own: Tensor) -> Tensor:
    """Zero where `own`, renormalised; left as it is where nothing would remain."""
    masked = looks.masked_fill(own, 0.0)
    total = masked.sum(-1, keepdim=True)
    return torch.where(total > 1e-12, masked / total.clamp(min=1e-12), looks)


def _quantile(values: Tensor, share: float) -> float:
    return float(torch.quantile(values.float(), share))
