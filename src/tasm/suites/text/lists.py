"""What the text suites share: word lists that fall into two disjoint parts, and plain turns.

Nobody trained on these, so nothing is held out of a model. The splits are there all the same, so
that settings tuned on one (`train`) are measured on words that they were not tuned on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from random import Random

from tasm.suites.episodes import Episode, Turn, World

GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma "
    "tau upsilon phi chi psi omega"
).split()
"""Names that say nothing of what they are given to."""


def part(items: Iterable[str], split: str) -> list[str]:
    """Every second one of the items, in an order that only the words decide."""
    mixed = sorted(items, key=lambda item: hashlib.sha256(item.encode()).digest())
    return mixed[0::2] if split == "held-out" else mixed[1::2]


def turn(question: str, answer: str) -> Turn:
    """A question without a picture."""
    return Turn((question,), answer)


def by_kind(
    world: World, kinds: Sequence[Sequence[str]], labels: Sequence[str], shown: int, asked: int
) -> Episode:
    """Every kind's questions have its label; shuffled rounds, none stands twice."""
    keys = world.order(shown, len(kinds)) + world.order(asked, len(kinds))
    left = [world.rng.sample(list(kind), len(kind)) for kind in kinds]
    turns = [turn(left[key].pop(), labels[key]) for key in keys]
    return Episode(turns[:shown], turns[shown:])


def empty_names(rng: Random, count: int, split: str) -> list[str]:
    """Names that mean nothing here, those of one split."""
    return rng.sample(part(GREEK, split), count)
