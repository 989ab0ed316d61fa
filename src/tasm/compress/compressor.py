"""One compression: scores, counts, selections, reduced layers. The same for joint and streaming
builds.

Knows parts and working layers; not how demonstrations are read.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.segment import Segment
from tasm.backbone.model import Backbone
from tasm.compress.banking import Banked
from tasm.compress.evidence import Evidence, Selection, Stage
from tasm.compress.parts.protocols import Budget, Reducer, Scorer
from tasm.compress.parts.reducers.drop import Drop
from tasm.compress.recipes.recipe import Recipe
from tasm.compress.records.received import Record
from tasm.compress.records.recorder import Recorder
from tasm.compress.replay import ReadAgain, Replay
from tasm.compress.selection import select
from tasm.compress.sharing import shared_scores
from tasm.compress.trial import NO_HARM, Trial
from tasm.compress.working import WorkingLayer, joined
from tasm.memory.layer import LayerTokens
from tasm.memory.tokens import TokenTable


@dataclass(frozen=True)
class Parts:
    """A recipe's parts, made."""

    scorer: Scorer
    budget: Budget
    reducer: Reducer
    name: str = "its own"
    others: tuple["Parts", ...] = ()
    """Parts that are tried beside these."""

    @classmethod
    def of(cls, recipe: Recipe) -> "Parts":
        """Make them; raises RecipeError where settings do not fit."""
        made = [
            None if part is None else part.make()
            for part in (recipe.scorer, recipe.budget, recipe.reducer)
        ]
        others = tuple(
            cls(other.scorer.make(), other.budget.make(), other.reducer.make(), other.name)
            for other in recipe.others
        )
        return cls(*made, others=others)  # type: ignore[arg-type]

    @property
    def records(self) -> tuple[Record, ...]:
        """What the parts want gathered."""
        return self._wanted("records")

    @property
    def replayed(self) -> tuple[Record, ...]:
        """What the parts want gathered while demonstrations are read again."""
        return self._wanted("replayed")

    def _wanted(self, name: str) -> tuple[Record, ...]:
        parts = (self.scorer, self.budget, self.reducer)
        own = [record for part in parts for record in getattr(part, name, ())]
        others = [record for other in self.others for record in other._wanted(name)]
        return tuple(dict.fromkeys([*own, *others]))


@dataclass(frozen=True, eq=False)
class Plan:
    """What one recipe's parts would do at a stage: scores and counts by layer."""

    parts: Parts
    scores: list[Tensor | None]
    counts: list[Tensor | None]
    stage: Stage


@dataclass(frozen=True)
class Newest:
    """What a stage adds: transcript tokens `first` to `stop - 1`, as demonstrations `spans`."""

    first: int
    stop: int


@dataclass
class Compressor:
    """Compresses stage after stage and holds what is kept between them.

    `core` and `bank` are tokens per layer and KV head, `total` the tokens of the whole transcript.
    """

    backbone: Backbone
    recipe: Recipe
    parts: Parts
    core: int
    bank: int
    total: int
    seed: int
    working: dict[int, WorkingLayer] = field(default_factory=dict)
    banked: dict[int, Banked] = field(default_factory=dict)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"score": 0.0, "trial": 0.0, "reduce": 0.0}
    )
    notes: dict[str, Any] = field(default_factory=dict)

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
        reduced.
        """
        started = time.perf_counter()
        whole: dict[int, WorkingLayer] = {}
        for layer in self.layers:
            before = self.working.get(layer)
            whole[layer] = WorkingLayer.of_segments(
                segments[layer] or (), before, newest.first, newest.stop
            )
            segments[layer] = None
        reading = self._read_again(whole, replay)
        appends = self.recipe.streaming == "append" and newest.first > 0
        core = self._core_for(newest)
        evidence: list[Evidence | None] = [None] * self.backbone.geometry.layers
        for layer, held in whole.items():
            evidence[layer] = self._evidence(
                layer, held, recorder, reading, tokens, newest, appends
            )
        plans = [
            self._plan(parts, evidence, core, whole, replay, reading)
            for parts in (self.parts, *self.parts.others)
        ]
        plan = plans[0] if len(plans) == 1 else self._least_harm(plans, whole, tokens)
        self.notes |= plan.stage.notes
        scores, counts = plan.scores, plan.counts
        banked = self._bank_counts(plan)
        parts = plan.parts
        # Nothing may hold a layer back that is about to be reduced and freed.
        del plan, plans, reading
        scored = time.perf_counter()
        for layer in self.layers:
            one, score, count = evidence[layer], scores[layer], counts[layer]
            assert one is not None and score is not None and count is not None
            before = self.working.get(layer) if appends else None
            order = self._reduce(parts, one, score, count, banked[layer], whole.pop(layer), before)
            if self.recipe.streaming == "append":
                recorder.forget_columns(layer)
            recorder.keep(layer, order)
            evidence[layer] = None
        self.seconds["score"] += scored - started
        self.seconds["reduce"] += time.perf_counter() - scored

    def _plan(
        self,
        parts: Parts,
        evidence: list[Evidence | None],
        core: int,
        whole: Mapping[int, WorkingLayer],
        replay: Replay,
        reading: ReadAgain | None,
    ) -> Plan:
        scores: list[Tensor | None] = [
            None if one is None else parts.scorer.score(one).float() for one in evidence
        ]
        notes: dict[str, Any] = {}
        scores = shared_scores(parts.scorer, evidence, scores, notes)
        stage = Stage(
            evidence=tuple(evidence),
            scores=tuple(scores),
            tokens=core,
            reduce=lambda layer, counts: self._candidate(
                parts, evidence, scores, layer, counts, whole[layer]
            ),
            replay=replay,
            read=reading,
            notes=notes,
        )
        counts = self._checked(evidence, parts.budget.allocate(stage))
        return Plan(parts, scores, counts, stage)

    def _least_harm(
        self, plans: list[Plan], whole: Mapping[int, WorkingLayer], tokens: TokenTable
    ) -> Plan:
        """The first plan if it changes what some demonstrations say by next to nothing, otherwise
        the one that changes it least."""
        started = time.perf_counter()
        replay = plans[0].stage.replay
        if not replay.demonstrations or all(
            bool((count >= whole[layer].valid.sum(1)).all())
            for layer, count in enumerate(plans[0].counts)
            if count is not None
        ):
            return plans[0]
        everything = {layer: held.layer_tokens() for layer, held in whole.items()}
        trial = Trial.of(replay, tokens, everything)
        losses = []
        for plan in plans:
            kept = {
                layer: plan.stage.reduce(layer, count)
                for layer, count in enumerate(plan.counts)
                if count is not None
            }
            losses.append(trial.loss(kept))
        # Close to nothing says little about queries that differ from the demonstrations.
        best = 0 if losses[0] < NO_HARM else min(range(len(plans)), key=losses.__getitem__)
        self.notes["tried"] = {
            plan.parts.name: float(f"{loss:.4g}") for plan, loss in zip(plans, losses, strict=True)
        }
        self.notes["taken"] = plans[best].parts.name
        self.seconds["trial"] += time.perf_counter() - started
        return plans[best]

    def _checked(
        self, evidence: list[Evidence | None], counts: list[Tensor | None]
    ) -> list[Tensor | None]:
        """(kv_heads,) counts where each layer's keys are; a layer that holds nothing yet keeps one
        token, because attention over none is undefined."""
        result: list[Tensor | None] = []
        for one, count in zip(evidence, counts, strict=True):
            if one is None or count is None:
                result.append(None)
                continue
            appends = self.recipe.streaming == "append" and one.layer in self.working
            result.append(count.to(one.keys.device).clamp(min=0 if appends else 1))
        return result

    def _bank_counts(self, plan: Plan) -> list[Tensor | None]:
        """(kv_heads,) originals each layer banks: the same everywhere unless the budget says."""
        counts = plan.counts
        if self.bank == 0:
            return [None if count is None else torch.zeros_like(count) for count in counts]
        divides = getattr(plan.parts.budget, "allocate_bank", None)
        if divides is not None:
            divided = divides(plan.stage, counts, self.bank)
            return [
                one if one is None or kept is None else one.to(kept.device)
                for one, kept in zip(divided, counts, strict=True)
            ]
        return [None if c is None else torch.full_like(c, self.bank) for c in counts]

    def _read_again(self, whole: Mapping[int, WorkingLayer], replay: Replay) -> ReadAgain | None:
        """Read the new demonstrations again over everything, if a part asks for it."""
        records = self.parts.replayed
        resumes = getattr(self.parts.budget, "resumes", False)
        if not records and not resumes:
            return None
        layers = {layer: held.layer_tokens() for layer, held in whole.items()}
        return replay.read(layers, records, keep_inputs=resumes)

    def _core_for(self, newest: Newest) -> int:
        if self.recipe.streaming != "append" or newest.stop - newest.first == self.total:
            return self.core
        # Shares are cut from one running total, so that they add up to the whole core. A chunk that
        # had to keep more than its share (the system prompt) leaves less for the next.
        counts = [float(held.valid.sum(1).float().mean()) for held in self.working.values()]
        held = math.ceil(sum(counts) / len(counts)) if counts else 0
        spent = max(held, self.core * newest.first // self.total)
        return max(0, self.core * newest.stop // self.total - spent)

    def _evidence(
        self,
        layer: int,
        held: WorkingLayer,
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
            held = held.tail(new)
            last = torch.arange(entries - new, entries, device=held.keys.device)
            order = last.expand(held.keys.shape[0], -1)
            records = {record: record.keep(state, order) for record, state in records.items()}
            replayed = {record: record.keep(state, order) for record, state in replayed.items()}
        return Evidence(
            layer=layer,
            layers=self.backbone.geometry.layers,
            keys=held.keys,
            values=held.values,
            index=held.index,
            counts=held.counts,
            valid=held.valid,
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
            seed=self.seed,
        )

    def _candidate(
        self,
        parts: Parts,
        evidence: list[Evidence | None],
        scores: list[Tensor | None],
        layer: int,
        counts: Tensor,
        whole: WorkingLayer,
    ) -> LayerTokens:
        """What a layer would keep with these counts; for budgets that try."""
        one, score = evidence[layer], scores[layer]
        assert one is not None and score is not None
        if _keeps_all(one, counts):
            return whole.layer_tokens()
        none = torch.zeros_like(counts)
        selection = select(one, score, counts, none, self.recipe.bank_choice)
        reduced = _reducer(parts, selection).reduce(one, selection, score)
        kept = WorkingLayer.of_reduced(reduced, selection, one.index, one.keys.dtype)
        before = self.working.get(layer)
        if before is not None and self.recipe.streaming == "append":
            kept = joined(before, kept)
        return kept.layer_tokens()

    def _reduce(
        self,
        parts: Parts,
        evidence: Evidence,
        scores: Tensor,
        counts: Tensor,
        bank: Tensor | None,
        whole: WorkingLayer,
        before: WorkingLayer | None,
    ) -> Tensor | None:
        """Reduce one layer; returns the entries of the evidence that stay, None where all do."""
        layer = evidence.layer
        if _keeps_all(evidence, counts):
            self.working[layer] = whole
            return None
        assert bank is not None
        selection = select(evidence, scores, counts, bank, self.recipe.bank_choice)
        reduced = _reducer(parts, selection).reduce(evidence, selection, scores)
        kept = WorkingLayer.of_reduced(reduced, selection, evidence.index, evidence.keys.dtype)
        if selection.wish is not None:
            seen = whole if before is None else whole.tail(evidence.entries)
            found = Banked.of(seen, selection.wish, selection.banked)
            earlier = self.banked.get(layer)
            self.banked[layer] = found if earlier is None else earlier.joined(found, bank)
        self.working[layer] = kept if before is None else joined(before, kept)
        return selection.order


def _reducer(parts: Parts, selection: Selection) -> Reducer:
    """The recipe's, or where nothing is kept the only thing that can be done."""
    return parts.reducer if selection.order.shape[1] else Drop()


def _keeps_all(evidence: Evidence, counts: Tensor) -> bool:
    return bool((counts.to(evidence.valid.device) >= evidence.valid.sum(1)).all())
