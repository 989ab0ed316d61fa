"""One compression: scores, counts, selections, reduced layers. The same for joint and streaming
builds.

Knows parts and the layers' tokens; not how demonstrations are read.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.segment import Segment
from tasm.backbone.model import Backbone
from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Parts
from tasm.compress.planning import Planner, keeps_all, kept_of
from tasm.compress.records.recorder import Recorder
from tasm.compress.replay import ReadAgain, Replay
from tasm.compress.selection import best_of, select
from tasm.compress.settings import Settings, Targets
from tasm.memory.layer import LayerTokens
from tasm.memory.per_head import packed
from tasm.memory.tokens import TokenTable


@dataclass(frozen=True)
class Newest:
    """What a stage adds: transcript tokens `first` to `stop - 1`."""

    first: int
    stop: int


@dataclass
class Compressor:
    """Compresses stage after stage and holds what is kept between them, `core` and `bank` by layer.

    `total` are the tokens of the whole transcript.
    """

    backbone: Backbone
    settings: Settings
    targets: Targets
    total: int
    core: dict[int, LayerTokens] = field(default_factory=dict)
    bank: dict[int, LayerTokens] = field(default_factory=dict)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"score": 0.0, "reduce": 0.0, "trial": 0.0}
    )
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.recipe = self.settings.recipe
        self.parts = Parts.of(self.recipe)

    @property
    def layers(self) -> list[int]:
        """Layers that compete: those with full attention."""
        kinds = self.backbone.geometry.layer_kinds
        return [layer for layer, kind in enumerate(kinds) if kind == "full"]

    def stage(
        self,
        segments: list[tuple[Segment, ...] | None],
        recorder: Recorder,
        tokens: TokenTable,
        newest: Newest,
        replay: Replay,
    ) -> None:
        """Compress what is kept so far together with a new chunk, all of it in `segments`.

        Empties the entries of `segments` it reads, so that a layer's keys can be freed once
        reduced. Of a model whose layers all keep a window or a state nothing is left to choose.
        """
        if not self.layers:
            return
        started, tried = time.perf_counter(), self.seconds["trial"]
        whole: dict[int, LayerTokens] = {}
        for layer in self.layers:
            read = _read(segments[layer] or (), newest)
            kept = self.core.get(layer)
            whole[layer] = read if kept is None else kept.joined(read)
            segments[layer] = None
        reading = self._read_again(whole, replay)
        before = self.core if self.recipe.streaming == "append" else {}
        evidence: list[Evidence | None] = [None] * self.backbone.geometry.layers
        for layer, held in whole.items():
            evidence[layer] = self._evidence(
                layer, held, recorder, reading, tokens, newest, appends=layer in before
            )
        core, bank = self._core_for(newest), self.targets.bank
        planner = Planner(self.recipe, evidence, whole, before, core, bank, replay, reading)
        if planner.has_to_try(self.parts):
            trial = time.perf_counter()
            plan, losses = planner.least_harm(self.parts, tokens)
            self.notes |= {"tried": losses, "taken": plan.parts.name}
            self.seconds["trial"] += time.perf_counter() - trial
        else:
            plan = planner.plan(self.parts)
        parts = plan.parts
        self.notes |= plan.stage.notes
        scores, counts, banked = plan.scores, plan.counts, plan.banked
        # Nothing may hold a layer back that is about to be reduced and freed.
        del plan, planner, reading
        scored = time.perf_counter()
        for layer in self.layers:
            one, score, count = evidence[layer], scores[layer], counts[layer]
            assert one is not None and score is not None and count is not None
            order = self._reduce(
                parts, one, score, count, banked[layer], whole.pop(layer), before.get(layer)
            )
            if self.recipe.streaming == "append":
                recorder.forget_columns(layer)
            recorder.keep(layer, order)
            evidence[layer] = None
        self.seconds["score"] += scored - started - (self.seconds["trial"] - tried)
        self.seconds["reduce"] += time.perf_counter() - scored

    def _read_again(self, whole: Mapping[int, LayerTokens], replay: Replay) -> ReadAgain | None:
        """Read the new demonstrations again over everything, if a part asks for it."""
        records = self.parts.replayed
        single = tuple(record for record in records if not record.of_contexts)
        together = tuple(record for record in records if record.of_contexts)
        reading = None
        if single or self.parts.reads_again:
            reading = replay.read(dict(whole), single)
        if not together:
            return reading
        held = replay.read_contexts(dict(whole), together)
        if reading is None:
            return ReadAgain((), held)
        return replace(
            reading, held={layer: {**reading.held[layer], **held[layer]} for layer in held}
        )

    def _core_for(self, newest: Newest) -> int:
        if self.recipe.streaming != "append" or newest.stop - newest.first == self.total:
            return self.targets.core
        # Shares are cut from one running total, so that they add up to the whole core. A chunk that
        # had to keep more than its share (the system prompt) leaves less for the next.
        counts = [sum(held.counts) / held.kv_heads for held in self.core.values()]
        held = math.ceil(sum(counts) / len(counts)) if counts else 0
        spent = max(held, self.targets.core * newest.first // self.total)
        return max(0, self.targets.core * newest.stop // self.total - spent)

    def _evidence(
        self,
        layer: int,
        held: LayerTokens,
        recorder: Recorder,
        reading: ReadAgain | None,
        tokens: TokenTable,
        newest: Newest,
        appends: bool,
    ) -> Evidence:
        records = recorder.layer(layer)
        replayed = {} if reading is None else reading.held.get(layer, {})
        if appends:
            entries, new = held.keys.shape[1], newest.stop - newest.first
            held = held.last(new)
            last = torch.arange(entries - new, entries, device=held.keys.device)
            order = last.expand(held.keys.shape[0], -1)
            records = {record: record.keep(state, order) for record, state in records.items()}
            replayed = {record: record.keep(state, order) for record, state in replayed.items()}
        return Evidence(
            layer=layer,
            layers=self.backbone.geometry.layers,
            held=held,
            tokens=tokens
            if tokens.roles.device == held.keys.device
            else tokens.to(held.keys.device),
            records=records,
            replayed=replayed,
            rotary=self.backbone.rotary.for_length(newest.stop),
            module=self.backbone.decoder.layers[layer],
            first_new=newest.first,
            total=self.total,
            budget=self._core_for(newest),
            scaling=recorder.scalings.get(layer, held.keys.shape[-1] ** -0.5),
            seed=self.settings.seed,
        )

    def _reduce(
        self,
        parts: Parts,
        evidence: Evidence,
        scores: Tensor,
        counts: Tensor,
        bank: Tensor | None,
        whole: LayerTokens,
        before: LayerTokens | None,
    ) -> Tensor | None:
        """Reduce one layer; returns the entries of the evidence that stay, None where all do."""
        layer = evidence.layer
        if keeps_all(evidence, counts):
            self.core[layer] = whole.compact()
            return None if whole.valid is None else packed(whole.valid)
        assert bank is not None
        selection = select(evidence, scores, counts, bank, self.recipe.bank_choice)
        kept = kept_of(parts, evidence, selection, scores, before)
        if selection.wish is not None:
            seen = replace(evidence.held, bias=None, originals=None, scores=selection.wish.float())
            found, earlier = seen.where(selection.banked), self.bank.get(layer)
            self.bank[layer] = found if earlier is None else best_of(earlier.joined(found), bank)
        self.core[layer] = kept
        return selection.order


def _read(segments: Sequence[Segment], newest: Newest) -> LayerTokens:
    """The transcript tokens that a stage adds, the last of `segments`."""
    left = newest.stop - newest.first
    keys: list[Tensor] = []
    values: list[Tensor] = []
    for segment in reversed(segments):
        if left:
            keys.insert(0, segment.keys[0, :, -left:])
            values.insert(0, segment.values[0, :, -left:])
            left -= keys[0].shape[1]
    index = torch.arange(newest.first, newest.stop, device=keys[0].device, dtype=torch.int32)
    return LayerTokens(_whole(keys), _whole(values), index.expand(keys[0].shape[0], -1))


def _whole(parts: list[Tensor]) -> Tensor:
    """One tensor of several along the entries; never a tensor of inference mode, which users could
    not run a plain forward pass over."""
    if len(parts) > 1:
        return torch.cat(parts, 1)
    return parts[0].clone() if parts[0].is_inference() else parts[0]
