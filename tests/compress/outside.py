"""Parts that a package of someone else might bring."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, Stage
from tasm.compress.parts.base import Budget, Scorer
from tasm.compress.recipes.recipe import Part, Recipe


@dataclass(frozen=True)
class Uneven(Budget):
    """The first head keeps 5 fewer than the budget, the second 5 more."""

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        counts = torch.tensor([stage.tokens - 5, stage.tokens + 5]).clamp(min=1)
        return [None if one is None else counts for one in stage.evidence]


@dataclass(frozen=True)
class LargeKeys(Scorer):
    """Keeps the tokens with the largest keys."""

    sign: float = 1.0

    def score(self, evidence: Evidence) -> Tensor:
        return self.sign * evidence.keys.float().norm(dim=-1)


@dataclass
class Listed(Scorer):
    """Keeps the tokens of some heads' largest keys; its settings can change, and have no hash."""

    signs: list[float]

    def score(self, evidence: Evidence) -> Tensor:
        return evidence.keys.float().norm(dim=-1) * torch.tensor(self.signs)[:, None]


LARGE_KEYS = Recipe(
    "large-keys",
    "Large keys",
    2026,
    "https://example.org",
    scorer=Part("tests.compress.outside:LargeKeys", {"sign": 1.0}),
)
