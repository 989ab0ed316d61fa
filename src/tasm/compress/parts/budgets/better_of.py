"""Do no harm: the measured budget, unless even layers change the answers less.

Knows two budgets and a trial; what is tried is what would be kept, reduced as the recipe reduces.
"""

import time
from dataclasses import dataclass

from torch import Tensor

from tasm.compress.evidence import Stage
from tasm.compress.parts.budgets.measured import Measured
from tasm.compress.parts.budgets.uniform import Uniform
from tasm.compress.trial import Trial
from tasm.memory import LayerTokens
from tasm.memory.tokens import TokenTable


@dataclass(frozen=True)
class BetterOf(Measured):
    """The budget of `Measured` or even layers, whichever changes what is said less.

    At most `asked` demonstrations are asked over everything and over what either budget would keep:
    once with their originals in the memory and once with these hidden, as a new query would be. The
    budget with the smaller sum of Jensen-Shannon divergences is taken. Notes hold both sums
    and how long it took.
    """

    asked: int = 8

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return (kv_heads,) counts by layer."""
        measured, even = super().allocate(stage), Uniform().allocate(stage)
        if not stage.replay.demonstrations or _everything_fits(stage):
            return measured
        started = time.perf_counter()
        trial = Trial.of(stage.replay, _tokens(stage), _kept(stage, _all(stage)), self.asked)
        losses = {
            "measured": sum(trial.losses(_kept(stage, measured))),
            "even": sum(trial.losses(_kept(stage, even))),
        }
        taken = min(losses, key=lambda name: losses[name])
        stage.notes["trial"] = {
            **{name: float(f"{loss:.4g}") for name, loss in losses.items()},
            "taken": taken,
            "seconds": round(time.perf_counter() - started, 3),
        }
        return measured if taken == "measured" else even


def _all(stage: Stage) -> list[Tensor | None]:
    return [None if one is None else one.valid.sum(1) for one in stage.evidence]


def _everything_fits(stage: Stage) -> bool:
    return all(one is None or one.entries <= stage.tokens for one in stage.evidence)


def _kept(stage: Stage, counts: list[Tensor | None]) -> dict[int, LayerTokens]:
    return {
        layer: stage.reduce(layer, count) for layer, count in enumerate(counts) if count is not None
    }


def _tokens(stage: Stage) -> TokenTable:
    return next(one.tokens for one in stage.evidence if one is not None)
