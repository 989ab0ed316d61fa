"""The smallest ratio that does not change what the model says, layer by layer: EMLoC.

Ma et al., "EMLoC", arXiv 2505.19812, algorithm 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tasm.compress.evidence import Stage
from tasm.compress.parts.base import Budget
from tasm.compress.parts.budgets.shares import counts_by_layer
from tasm.memory.layer import LayerTokens


@dataclass(frozen=True)
class AcceptedRatios(Budget):
    """From the top layer down, the first of `ratios` with JS(p, p₀) ≤ δ is taken.

    p₀ are the predictions of the demonstrations' answers with everything kept, p those with this
    layer reduced to the ratio and the layers above as already decided. Where none is accepted the
    layer keeps everything.

    | setting | |
    |---|---|
    | `ratios` | shares of the newest chunk, ascending |
    | `delta` | δ in nats (the paper's is 0.005), or "budget": δ is searched until the mean meets the budget |
    | `together` | neighbouring layers that share one ratio: 2 is the paper's EMLoC* |
    | `tries` | runs of the algorithm that the search may take |
    | `spend` | "whole": what the accepted ratios leave of the budget goes to the layers in their proportion; "accepted": it is left |

    With "budget", ratios too large for it are scaled down so that the smallest is half of the
    budget; notes say δ, the ratios and what each layer took.

    Differs from the paper in: softmax and logarithm are in float32, so that no rejected ratio is
    accepted for being no number. δ = 0.005 and the paper's ratios stay selectable (`emloc-paper`).
    """  # noqa: E501

    ratios: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0)
    delta: float | str = "budget"
    together: int = 1
    tries: int = 6
    spend: Literal["whole", "accepted"] = "whole"
    reads_again = True

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return (kv_heads,) counts by layer."""
        if not isinstance(self.delta, str):
            taken = self._accepted(stage, self.ratios, self.delta, {})
            return self._counts(stage, taken, self.delta)
        entries = max(one.entries for one in stage.evidence if one is not None)
        share = stage.tokens / entries
        factor = min(1.0, share / 2 / self.ratios[0])
        ratios = tuple(ratio * factor if ratio < 1 else ratio for ratio in self.ratios)
        # δ spans orders of magnitude: halve its logarithm's range. What is too large is not kept.
        low, high = -6.0, -0.159
        best, best_delta = dict.fromkeys(stage.competing, ratios[0]), 10.0**high
        known: dict[tuple[float, ...], float] = {}
        for number in range(self.tries):
            middle = high if number == 0 else (low + high) / 2
            taken = self._accepted(stage, ratios, 10.0**middle, known)
            asked = [self._count(stage, layer, ratio) for layer, ratio in taken.items()]
            mean = sum(float(one.float().mean()) for one in asked) / len(asked)
            fits = sum(taken.values()) / len(taken) <= share and mean <= stage.tokens
            if fits:
                best, best_delta, high = taken, 10.0**middle, middle
            else:
                low = middle
        counts = self._counts(stage, best, best_delta)
        if self.spend == "accepted":
            return counts
        accepted = {
            layer: float(one.float().mean()) for layer, one in enumerate(counts) if one is not None
        }
        if sum(accepted.values()) >= stage.tokens * len(accepted):
            return counts  # nothing is left, or a stream's chunk has no share at all
        return counts_by_layer(stage, accepted)

    def _accepted(
        self,
        stage: Stage,
        ratios: tuple[float, ...],
        delta: float,
        known: dict[tuple[float, ...], float],
    ) -> dict[int, float]:
        """The ratio of every competing layer, decided from the top down.

        `known` remembers divergences by the ratios from the top down to the one tried: another δ
        often comes to the same ones.
        """
        replay, teacher = stage.replay, stage.read
        if replay is None or teacher is None:
            raise RuntimeError("this budget needs the demonstrations to be read again")
        layers = stage.competing
        groups = [
            layers[max(0, stop - self.together) : stop]
            for stop in range(len(layers), 0, -self.together)
        ]
        held: dict[int, LayerTokens] = {
            layer: stage.reduce(layer, self._count(stage, layer, 1.0)) for layer in layers
        }
        taken: dict[int, float] = dict.fromkeys(layers, 1.0)
        for group in groups:
            above = tuple(taken[layer] for layer in layers if layer > group[-1])
            for ratio in ratios:
                tried: Mapping[int, LayerTokens] = held | {
                    layer: stage.reduce(layer, self._count(stage, layer, ratio)) for layer in group
                }
                if ratio < 1:
                    case = (ratio, *above)
                    if case not in known:
                        known[case] = replay.divergence(teacher, replay.read(tried))
                    if known[case] > delta:
                        continue
                held = dict(tried)
                taken |= dict.fromkeys(group, ratio)
                break
        return taken

    def _counts(self, stage: Stage, taken: dict[int, float], delta: float) -> list[Tensor | None]:
        stage.notes["delta"] = delta
        stage.notes["ratios"] = [taken[layer] for layer in stage.competing]
        return [
            self._count(stage, layer, taken[layer]) if layer in taken else None
            for layer in range(len(stage.evidence))
        ]

    def _count(self, stage: Stage, layer: int, ratio: float) -> Tensor:
        """(kv_heads,) int(ratio·entries), the always kept ones at least, and one where the memory
        holds nothing else."""
        one = stage.evidence[layer]
        assert one is not None
        counts = (one.valid.sum(1) * ratio).long()
        return torch.maximum(counts, one.always.sum(1)).clamp(min=0 if one.first_new else 1)
