"""What a cache's retrieval did: how often it fired, how far queries strayed, what came back.

Kept per row on the device, read when asked for: recording never waits for an accelerator.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class RetrievalStatistics:
    """Counts of one cache, one number per row of its batch.

    ```python
    cache.extra.statistics.triggered()          # [0.25]: a quarter of the (layer, step) pairs
    ```
    """

    def __init__(self, layers: int, attention_layers: int) -> None:
        self._attention_layers = attention_layers
        # (batch,) or (batch, steps) each, one after the other: joined when rows move or somebody
        # asks. A number stands for so many steps at which the gate was not asked.
        self._fired: list[list[Tensor | int]] = [[] for _ in range(layers)]
        self._divergence: list[Tensor | None] = [None] * layers
        self._retrieved: list[Tensor | None] = [None] * layers

    def record(
        self,
        layer: int,
        fired: Tensor,
        divergence: Tensor | None,
        tokens: float,
        *,
        is_first: bool,
    ) -> None:
        """Note one layer's step; `fired` (batch,) bool, `divergence` (batch,) nats, `tokens` what a
        search of this layer brings per KV head. Steps of a compiled call are left out of
        `triggered`: a growing tensor would be compiled anew at each step."""
        if not torch.compiler.is_compiling():
            self._fired[layer].append(fired)
        if is_first:
            self._divergence[layer] = divergence
            self._retrieved[layer] = fired.float() * tokens

    def rest(self, layer: int) -> None:
        """Note a step of a layer, not its first, at which the gate was not asked."""
        if not torch.compiler.is_compiling():
            self._fired[layer].append(1)

    def triggered(self, steps: Sequence[int] | None = None) -> list[float]:
        """Per row, the share of (layer, step) pairs that retrieved; of the first `steps[row]` calls
        only, so that what a finished row of a batch went on with can be left out."""
        return _shares([_joined(steps).cpu() for steps in self._fired if steps], steps)

    def attached(self, steps: Sequence[int] | None = None) -> list[float]:
        """Per row, the share of (layer, step) pairs that attended to something retrieved: then, or
        at an earlier step."""
        fired = [_joined(steps).cpu() for steps in self._fired if steps]
        return _shares([layer.int().cummax(1).values for layer in fired], steps)

    def divergence(self) -> list[float]:
        """Per row, nats at the first step: mean over heads and gated layers; empty where there
        was no reference to compare with."""
        present = [layer.float().cpu() for layer in self._divergence if layer is not None]
        means: list[float] = torch.stack(present).mean(0).tolist() if present else []
        return means

    def retrieved_tokens(self) -> list[float]:
        """Per row, tokens retrieved at the first step: mean over heads and all attention layers, so
        that core tokens and these add up to what a layer attends to."""
        present = [layer.cpu() for layer in self._retrieved if layer is not None]
        if not present:
            return []
        means: list[float] = (torch.stack(present).sum(0) / self._attention_layers).tolist()
        return means

    def map_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        """Rows moved: apply the same to what is kept of each."""
        self._fired = [[change(_joined(steps))] if steps else [] for steps in self._fired]
        for state in (self._divergence, self._retrieved):
            state[:] = [None if tensor is None else change(tensor) for tensor in state]


def _shares(recorded: Sequence[Tensor], steps: Sequence[int] | None) -> list[float]:
    """Per row, the mean of (batch, steps) of all layers, over the first `steps[row]`."""
    shares = []
    for row in range(recorded[0].shape[0] if recorded else 0):
        last = None if steps is None else steps[row]
        pairs = torch.cat([layer[row, :last] for layer in recorded])
        shares.append(float(pairs.float().mean()) if pairs.numel() else 0.0)
    return shares


def _joined(steps: Sequence[Tensor | int]) -> Tensor:
    """(batch, steps) bool."""
    asked = next(step for step in steps if isinstance(step, Tensor))
    return torch.cat(
        [
            asked.new_zeros(asked.shape[0], step, dtype=torch.bool)
            if isinstance(step, int)
            else (step if step.ndim == 2 else step[:, None])
            for step in steps
        ],
        1,
    )
