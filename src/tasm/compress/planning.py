"""What a stage would keep: by the recipe's own parts, or by others that surely change less.

Knows parts, and a layer's entries as evidence; keeps nothing itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from tasm.compress.asking import Asking
from tasm.compress.evidence import Evidence, Selection, Stage
from tasm.compress.parts.base import Parts, Scorer
from tasm.compress.parts.reducers.drop import Drop
from tasm.compress.recipes.recipe import Recipe
from tasm.compress.replay import ReadAgain, Replay
from tasm.compress.selection import select, shared_scores
from tasm.compress.trial import Trial, is_harmless, least_harm
from tasm.memory.layer import LayerTokens
from tasm.memory.tokens import TokenTable

ByLayer = list[Tensor | None]


@dataclass(frozen=True, eq=False)
class Plan:
    """What some parts would do at a stage: scores, and counts of core and bank, by layer."""

    parts: Parts
    scores: ByLayer
    counts: ByLayer
    banked: ByLayer
    stage: Stage


@dataclass(frozen=True, eq=False)
class Planner:
    """Plans of one stage: its `evidence` and all that is held (`whole`) by layer, `before` what an
    appending stream has kept; `core` and `bank` are tokens in the mean.

    ```python
    planner.plan(parts).counts
    ```
    """

    recipe: Recipe
    evidence: Sequence[Evidence | None]
    whole: Mapping[int, LayerTokens]
    before: Mapping[int, LayerTokens]
    core: int
    bank: int
    replay: Replay
    reading: ReadAgain | None
    _scored: list[tuple[Scorer, ByLayer, dict[str, Any]]] = field(default_factory=list)

    def plan(self, parts: Parts) -> Plan:
        """Return what `parts` would do; parts with one scorer share its scores."""
        scores, noted = self._scores(parts.scorer)
        stage = Stage(
            evidence=tuple(self.evidence),
            scores=tuple(scores),
            tokens=self.core,
            reduce=lambda layer, counts: self._candidate(parts, scores, layer, counts),
            replay=self.replay,
            read=self.reading,
            notes=dict(noted),
        )
        counts = self._checked(parts.budget.allocate(stage))
        return Plan(parts, scores, counts, self._bank_counts(parts, stage, counts), stage)

    def _scores(self, scorer: Scorer) -> tuple[ByLayer, dict[str, Any]]:
        """A scorer's scores and notes, made once for equal scorers, which need not be hashable."""
        for known, scores, noted in self._scored:
            if known == scorer:
                return scores, noted
        noted = {}
        own = [None if one is None else scorer.score(one).float() for one in self.evidence]
        scores = shared_scores(scorer, self.evidence, own, noted)
        self._scored.append((scorer, scores, noted))
        return scores, noted

    def has_to_try(self, parts: Parts) -> bool:
        """Whether there are other parts, something leaves, and more than one can be asked."""
        fits = all(max(held.counts) <= self.core for held in self.whole.values())
        return bool(parts.others and len(self.replay.demonstrations) > 1 and not fits)

    def least_harm(self, parts: Parts, tokens: TokenTable) -> tuple[Plan, dict[str, float]]:
        """Return the plan of `parts`, unless others surely change less of what some demonstrations
        say, and the losses of all that were tried, nats.

        Their reference rows are left out of what decides, so that none was chosen for what is
        asked.
        """
        candidates = (parts, *parts.others)
        trial: Trial | Asking
        is_fitted = any(one.reducer.records or one.reducer.replayed for one in candidates)
        if is_fitted or any(one is None for one in self.evidence):
            # A layer with a window holds the transcript's end, which rows from before it never saw.
            trial = Asking.of(
                self.replay, tokens, dict(self.whole), self.recipe.asked, self.reading
            )
        else:
            trial = Trial.of(self.replay, tokens, dict(self.whole), self.recipe.asked)
        rest = [None if one is None else one.without(trial.numbers) for one in self.evidence]
        planner = replace(self, evidence=rest, _scored=[])
        plans: list[Plan] = []
        losses: list[Tensor] = []
        for some in (candidates[:1], candidates[1:]):
            if losses and is_harmless(losses[0]):  # none of the others could be taken
                break
            for one in some:
                plans.append(planner.plan(one))
                if isinstance(trial, Asking):  # what is fitted is tried as it is, one at a time
                    losses.append(trial.losses(planner._made(plans[-1])))
            if isinstance(trial, Trial):
                losses += trial.losses([planner._stored(plan) for plan in plans[len(losses) :]])
        tried = {
            plan.parts.name: float(f"{float(loss.mean()):.4g}")
            for plan, loss in zip(plans, losses, strict=True)
        }
        return plans[least_harm(losses)], tried

    def _made(self, plan: Plan) -> dict[int, LayerTokens]:
        """What a plan would keep, core and bank together, by layer."""
        made = {
            layer: plan.stage.reduce(layer, count)
            for layer, count in enumerate(plan.counts)
            if count is not None
        }
        for layer, kept in self._stored(plan).items() if self.bank else ():
            one, score, count = self.evidence[layer], plan.scores[layer], plan.counts[layer]
            assert one is not None and score is not None and count is not None
            core = select(one, score, count, torch.zeros_like(count), self.recipe.bank_choice).kept
            originals = replace(one.held, bias=None, originals=None, scores=None)
            made[layer] = made[layer].joined(originals.where(kept & ~core))
        return made

    def _stored(self, plan: Plan) -> dict[int, Tensor]:
        """(kv_heads, entries) bool: what a plan would keep, core and bank together, by layer."""
        stored = {}
        for layer, bank in enumerate(plan.banked):
            one, score, count = self.evidence[layer], plan.scores[layer], plan.counts[layer]
            if one is None or score is None or count is None or keeps_all(one, count):
                continue
            assert bank is not None
            selection = select(one, score, count, bank, self.recipe.bank_choice)
            stored[layer] = selection.kept | selection.banked
        return stored

    def _checked(self, counts: ByLayer) -> ByLayer:
        """(kv_heads,) counts where each layer's keys are; a layer that holds nothing yet keeps one
        token, because attention over none is undefined."""
        return [
            None
            if one is None or count is None
            else count.to(one.keys.device).clamp(min=0 if one.layer in self.before else 1)
            for one, count in zip(self.evidence, counts, strict=True)
        ]

    def _bank_counts(self, parts: Parts, stage: Stage, counts: ByLayer) -> ByLayer:
        """(kv_heads,) originals each layer banks: the same everywhere unless the budget says."""
        if self.bank == 0:
            return [None if count is None else torch.zeros_like(count) for count in counts]
        divided = parts.budget.allocate_bank(stage, counts, self.bank)
        return [
            one if one is None or kept is None else one.to(kept.device)
            for one, kept in zip(divided, counts, strict=True)
        ]

    def _candidate(self, parts: Parts, scores: ByLayer, layer: int, counts: Tensor) -> LayerTokens:
        """What a layer would keep with these counts; for budgets that try."""
        one, score, whole = self.evidence[layer], scores[layer], self.whole[layer]
        assert one is not None and score is not None
        if keeps_all(one, counts):
            return whole
        selection = select(one, score, counts, torch.zeros_like(counts), self.recipe.bank_choice)
        if isinstance(parts.reducer, Drop):  # hidden is as good as gone, and nothing is copied
            unseen = torch.zeros(whole.index.shape, dtype=torch.bool, device=whole.keys.device)
            unseen[:, -one.entries :] = ~selection.kept
            return whole.hiding(unseen)
        return kept_of(parts, one, selection, score, self.before.get(layer))


def kept_of(
    parts: Parts,
    evidence: Evidence,
    selection: Selection,
    scores: Tensor,
    before: LayerTokens | None,
) -> LayerTokens:
    """Return what the reducer leaves, after what was kept `before` of a stream that appends."""
    # Where nothing is kept, dropping is all that can be done.
    reducer = parts.reducer if selection.order.shape[1] else Drop()
    reduced = reducer.reduce(evidence, selection, scores).to(dtype=evidence.keys.dtype)
    return reduced if before is None else before.joined(reduced).compact()


def keeps_all(evidence: Evidence, counts: Tensor) -> bool:
    """Return whether `counts` (kv_heads,) are all the entries that each head holds."""
    return bool((counts.to(evidence.valid.device) >= evidence.valid.sum(1)).all())
