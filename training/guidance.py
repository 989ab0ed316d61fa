"""Where heads are told to look, and which layers the aids read: three ways.

`Pinned` names layers and heads, so it decides where the trained model looks things up. `Drawn`
draws them, in the same order, from the seed. `Spread` tells every layer the same, and any of its
heads may do it; once it has faded, training keeps what it needs. Knows no task and no optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

import torch
from torch import Tensor

from training.layout import Batch, Guide
from training.net import Pass, Shape

FAINT = 1e-5  # added to a mass before its logarithm
HEAT = 0.3  # of the soft minimum over a layer's heads, in nats


@dataclass(frozen=True)
class Reading:
    """The layers after which the aids read: a look, part of one, what decides, a token's mark."""

    looks: int = 1
    part: int = 2
    word: int = 2
    ask: int = 3
    marks: int = 0


class Guidance(Protocol):
    """A way to guide."""

    def watch(self, batch: Batch, layers: int) -> tuple[int, ...]:
        """The layers whose attention the loss needs."""
        ...

    def loss(self, batch: Batch, out: Pass) -> Tensor:
        """How far attention is from where it should fall."""
        ...

    def reading(self, rng: Random, layers: int) -> Reading:
        """Where this step's aids read."""
        ...


class Pinned:
    """The layers and heads that the hints name."""

    def watch(self, batch: Batch, layers: int) -> tuple[int, ...]:
        """The layers named."""
        return tuple({layer for layer, _, _ in batch.guides})

    def loss(self, batch: Batch, out: Pass) -> Tensor:
        """-log of the mass on the right tokens, summed over the named places."""
        length, losses = batch.ids.shape[1], []
        for (layer, group, head), guide in batch.guides.items():
            rows = torch.tensor(guide.rows)
            weight = out.attention[layer][rows[:, 0], head, group, rows[:, 1]].float()
            wanted = torch.zeros(len(rows), length)
            at = [i for i, columns in enumerate(guide.columns) for _ in columns]
            wanted[at, [c for columns in guide.columns for c in columns]] = 1
            losses.append(-((weight * wanted).sum(1) + FAINT).log().mean())
        return torch.stack(losses).sum() / 2

    def reading(self, rng: Random, layers: int) -> Reading:
        """The bundled model's."""
        return Reading()


class Drawn(Pinned):
    """As the hints say, but in layers, KV heads and groups drawn once; the aids read other layers
    at every step."""

    def __init__(self, shape: Shape, seed: int) -> None:
        rng = Random(seed)
        self.layers = sorted(rng.sample(range(1, shape.layers), 4))
        group = range(shape.heads // shape.kv_heads)
        self.heads = [rng.sample(range(shape.kv_heads), 2) for _ in self.layers]
        self.groups = [rng.sample(group, 2) for _ in self.layers]

    def moved(self, batch: Batch) -> Batch:
        """The batch with its guides where they were drawn; hints name layers 1 to 4."""
        guides = {
            (
                self.layers[layer - 1],
                self.groups[layer - 1][group],
                self.heads[layer - 1][head],
            ): guide
            for (layer, group, head), guide in batch.guides.items()
        }
        return replace(batch, guides=guides)

    def watch(self, batch: Batch, layers: int) -> tuple[int, ...]:
        """The layers drawn that these hints are for."""
        return super().watch(self.moved(batch), layers)

    def loss(self, batch: Batch, out: Pass) -> Tensor:
        """As `Pinned`'s."""
        return super().loss(self.moved(batch), out)

    def reading(self, rng: Random, layers: int) -> Reading:
        """As `Spread`'s."""
        return _reading(rng, layers)


class Spread:
    """Every layer alike, whichever of its heads."""

    def watch(self, batch: Batch, layers: int) -> tuple[int, ...]:
        """All of them."""
        return tuple(range(layers)) if batch.guides else ()

    def loss(self, batch: Batch, out: Pass) -> Tensor:
        """By what is looked for: a soft minimum over heads, summed over layers (their mean is too
        weak to start the second of two hops); counted as the pinned way counts two heads."""
        roles = _roles(batch.guides)
        entries, role_of, row = [], [], 0
        for index, (guide, _) in enumerate(roles):
            for (b, r), columns in zip(guide.rows, guide.columns, strict=True):
                entries += [(b, r, c, row) for c in columns]
                role_of.append(index)
                row += 1
        b, r, c, owner = torch.tensor(entries).T
        role = torch.tensor(role_of)
        many = torch.bincount(role, minlength=len(roles)).float()[:, None]
        layers = []
        for _, weight in sorted(out.attention.items()):
            found = weight[b, :, :, r, c].float().flatten(1)
            mass = found.new_zeros(row, found.shape[1]).index_add(0, owner, found)
            missed = -(mass + FAINT).log()
            mean = missed.new_zeros(len(roles), found.shape[1]).index_add(0, role, missed) / many
            layers.append(_soft_minimum(mean))
        weights = torch.tensor([share for _, share in roles])
        return (weights * torch.stack(layers, 1).sum(1)).sum() / 2

    def reading(self, rng: Random, layers: int) -> Reading:
        """Drawn anew at every step, what decides after what is seen."""
        return _reading(rng, layers)


GUIDANCE: dict[str, Callable[[Shape, int], Guidance]] = {
    "pinned": lambda shape, seed: Pinned(),
    "drawn": Drawn,
    "spread": lambda shape, seed: Spread(),
}


def _reading(rng: Random, layers: int) -> Reading:
    early, late = sorted(rng.sample(range(1, layers - 1), 2))
    either = rng.randrange(1, layers - 1)
    return Reading(looks=either, part=either, word=early, ask=late, marks=either)


def _soft_minimum(values: Tensor) -> Tensor:
    """Over the last dimension; equal values give that value."""
    shares = torch.logsumexp(-values / HEAT, -1) - torch.log(torch.tensor(float(values.shape[-1])))
    return -HEAT * shares


def _roles(guides: dict[tuple[int, int, int], Guide]) -> list[tuple[Guide, float]]:
    """What is looked for, once each: heads told the same are one; and half of their number."""
    found: list[tuple[Guide, float]] = []
    for (layer, group, head), guide in sorted(guides.items(), key=lambda one: one[0]):
        twin = guides.get((layer, group, 0))
        if head and twin is not None and twin == guide:
            found = [(g, share + 0.5 if g is twin else share) for g, share in found]
        else:
            found.append((guide, 0.5))
    return found
