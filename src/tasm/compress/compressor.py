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
from tasm.compress.asking import Asking
from tasm.compress.evidence import Evidence, Selection, Stage
from tasm.compress.parts.base import Parts
from tasm.compress.parts.reducers.drop import Drop
from tasm.compress.records.recorder import Recorder
from tasm.compress.replay import ReadAgain, Replay
from tasm.compress.selection import best_of, select, shared_scores
from tasm.compress.settings import Settings, Targets
from tasm.compress.trial import Trial, is_harmless, least_harm
from tasm.memory.layer import LayerTokens
from tasm.memory.per_head import packed
from tasm.memory.tokens import TokenTable


@dataclass(frozen=True, eq=False)
class Plan:
    """What one recipe's parts would do at a stage: scores, and counts of core and bank, by
    layer."""

    parts: Parts
    scores: list[Tensor | None]
    counts: list[Tensor | None]
    banked: list[Tensor | None]
    stage: Stage


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
            before = self.core.get(layer)
            whole[layer] = read if before is None else before.joined(read)
            segments[layer] = None
        reading = self._read_again(whole, replay)
        appends = self.recipe.streaming == "append" and newest.first > 0
        core = self._core_for(newest)
        evidence: list[Evidence | None] = [None] * self.backbone.geometry.layers
        for layer, held in whole.items():
            evidence[layer] = self._evidence(
                layer, held, recorder, reading, tokens, newest, appends
            )
        if self._has_to_try(core, whole, replay):
            plan = self._least_harm(evidence, core, whole, tokens, replay, reading)
        else:
            plan = self._plan(self.parts, evidence, core, whole, replay, reading)
        parts = plan.parts
        self.notes |= plan.stage.notes
        scores, counts = plan.scores, plan.counts
        banked = plan.banked
        # Nothing may hold a layer back that is about to be reduced and freed.
        del plan, reading
        scored = time.perf_counter()
        for layer in self.layers:
            one, score, count = evidence[layer], scores[layer], counts[layer]
            assert one is not None and score is not None and count is not None
            before = self.core.get(layer) if appends else None
            order = self._reduce(parts, one, score, count, banked[layer], whole.pop(layer), before)
            if self.recipe.streaming == "append":
                recorder.forget_columns(layer)
            recorder.keep(layer, order)
            evidence[layer] = None
        self.seconds["score"] += scored - started - (self.seconds["trial"] - tried)
        self.seconds["reduce"] += time.perf_counter() - scored

    def _plan(
        self,
        parts: Parts,
        evidence: list[Evidence | None],
        core: int,
        whole: Mapping[int, LayerTokens],
        replay: Replay,
        reading: ReadAgain | None,
        known: Plan | None = None,
    ) -> Plan:
        """What `parts` would do; scores are those of `known`, a plan with the same scorer."""
        notes: dict[str, Any] = {}
        if known is None:
            scores: list[Tensor | None] = [
                None if one is None else parts.scorer.score(one).float() for one in evidence
            ]
            scores = shared_scores(parts.scorer, evidence, scores, notes)
        else:
            scores = known.scores
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
        return Plan(parts, scores, counts, self._bank_counts(parts, stage, counts), stage)

    def _has_to_try(self, core: int, whole: Mapping[int, LayerTokens], replay: Replay) -> bool:
        """Whether there are other parts, something leaves, and more than one can be asked."""
        fits = all(max(held.counts) <= core for held in whole.values())
        return bool(self.parts.others and len(replay.demonstrations) > 1 and not fits)

    def _least_harm(
        self,
        evidence: list[Evidence | None],
        core: int,
        whole: Mapping[int, LayerTokens],
        tokens: TokenTable,
        replay: Replay,
        reading: ReadAgain | None,
    ) -> Plan:
        """The recipe's own plan, unless others surely change less of what some demonstrations say.

        Their reference rows are left out of what decides, so that none was chosen for what is
        asked.
        """
        started = time.perf_counter()
        candidates = (self.parts, *self.parts.others)
        trial: Trial | Asking
        is_fitted = any(parts.reducer.records or parts.reducer.replayed for parts in candidates)
        if is_fitted or any(one is None for one in evidence):
            # A layer with a window holds the transcript's end, which rows from before it never saw.
            trial = Asking.of(replay, tokens, dict(whole), self.recipe.asked, reading)
        else:
            trial = Trial.of(replay, tokens, dict(whole), self.recipe.asked)
        rest = [None if one is None else one.without(trial.numbers) for one in evidence]
        plans: list[Plan] = []
        losses: list[Tensor] = []
        for some in (candidates[:1], candidates[1:]):
            if losses and is_harmless(losses[0]):  # none of the others could be taken
                break
            for parts in some:
                known = next((plan for plan in plans if plan.parts.scorer == parts.scorer), None)
                plans.append(self._plan(parts, rest, core, whole, replay, reading, known))
                if isinstance(trial, Asking):  # what is fitted is tried as it is, one at a time
                    losses.append(trial.losses(self._made(plans[-1])))
            if isinstance(trial, Trial):
                losses += trial.losses([self._stored(plan) for plan in plans[len(losses) :]])
        best = plans[least_harm(losses)]
        self.notes["tried"] = {
            plan.parts.name: float(f"{float(loss.mean()):.4g}")
            for plan, loss in zip(plans, losses, strict=True)
        }
        self.notes["taken"] = best.parts.name
        self.seconds["trial"] += time.perf_counter() - started
        return best

    def _made(self, plan: Plan) -> dict[int, LayerTokens]:
        """What a plan would keep, core and bank together, by layer."""
        made = {
            layer: plan.stage.reduce(layer, count)
            for layer, count in enumerate(plan.counts)
            if count is not None
        }
        for layer, kept in self._stored(plan).items() if self.targets.bank else ():
            one, score, count = plan.stage.evidence[layer], plan.scores[layer], plan.counts[layer]
            assert one is not None and score is not None and count is not None
            core = select(one, score, count, torch.zeros_like(count), self.recipe.bank_choice).kept
            originals = replace(one.held, bias=None, originals=None, scores=None)
            made[layer] = made[layer].joined(originals.where(kept & ~core))
        return made

    def _stored(self, plan: Plan) -> dict[int, Tensor]:
        """(kv_heads, entries) bool: what a plan would keep, core and bank together, by layer."""
        stored = {}
        for layer, bank in enumerate(plan.banked):
            one, score, count = plan.stage.evidence[layer], plan.scores[layer], plan.counts[layer]
            if one is None or score is None or count is None or _keeps_all(one, count):
                continue
            assert bank is not None
            selection = select(one, score, count, bank, self.recipe.bank_choice)
            stored[layer] = selection.kept | selection.banked
        return stored

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
            appends = self.recipe.streaming == "append" and one.layer in self.core
            result.append(count.to(one.keys.device).clamp(min=0 if appends else 1))
        return result

    def _bank_counts(
        self, parts: Parts, stage: Stage, counts: list[Tensor | None]
    ) -> list[Tensor | None]:
        """(kv_heads,) originals each layer banks: the same everywhere unless the budget says."""
        if self.targets.bank == 0:
            return [None if count is None else torch.zeros_like(count) for count in counts]
        divided = parts.budget.allocate_bank(stage, counts, self.targets.bank)
        return [
            one if one is None or kept is None else one.to(kept.device)
            for one, kept in zip(divided, counts, strict=True)
        ]

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

    def _candidate(
        self,
        parts: Parts,
        evidence: list[Evidence | None],
        scores: list[Tensor | None],
        layer: int,
        counts: Tensor,
        whole: LayerTokens,
    ) -> LayerTokens:
        """What a layer would keep with these counts; for budgets that try."""
        one, score = evidence[layer], scores[layer]
        assert one is not None and score is not None
        if _keeps_all(one, counts):
            return whole
        selection = select(one, score, counts, torch.zeros_like(counts), self.recipe.bank_choice)
        if isinstance(parts.reducer, Drop):  # hidden is as good as gone, and nothing is copied
            unseen = torch.zeros(whole.index.shape, dtype=torch.bool, device=whole.keys.device)
            unseen[:, -one.entries :] = ~selection.kept
            return whole.hiding(unseen)
        before = self.core.get(layer) if self.recipe.streaming == "append" else None
        return _kept(parts, one, selection, score, before)

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
        if _keeps_all(evidence, counts):
            self.core[layer] = whole.compact()
            return None if whole.valid is None else packed(whole.valid)
        assert bank is not None
        selection = select(evidence, scores, counts, bank, self.recipe.bank_choice)
        kept = _kept(parts, evidence, selection, scores, before)
        if selection.wish is not None:
            seen = replace(evidence.held, bias=None, originals=None, scores=selection.wish.float())
            found, earlier = seen.where(selection.banked), self.bank.get(layer)
            self.bank[layer] = found if earlier is None else best_of(earlier.joined(found), bank)
        self.core[layer] = kept
        return selection.order


def _kept(
    parts: Parts,
    evidence: Evidence,
    selection: Selection,
    scores: Tensor,
    before: LayerTokens | None,
) -> LayerTokens:
    """What the reducer leaves, after what was kept `before` of a stream that appends."""
    # Where nothing is kept, dropping is all that can be done.
    reducer = parts.reducer if selection.order.shape[1] else Drop()
    reduced = reducer.reduce(evidence, selection, scores).to(dtype=evidence.keys.dtype)
    return reduced if before is None else before.joined(reduced).compact()


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


def _keeps_all(evidence: Evidence, counts: Tensor) -> bool:
    return bool((counts.to(evidence.valid.device) >= evidence.valid.sum(1)).all())
