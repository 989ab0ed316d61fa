"""Scores of one layer for others, also where the layer that should give them does not compete."""

from typing import Any

import torch

from tasm.compress.selection import shared_scores
from tests.compress.examples import evidence, table


class FromSecond:
    records = ()

    def source_layer(self, layer: int, layers: int) -> int:
        return min(layer, 1)

    def score(self, evidence: Any) -> Any:
        raise NotImplementedError


def shared(competing: list[bool]) -> tuple[list[Any], dict[str, Any]]:
    """Layer n's own scores are n everywhere."""
    tokens = table([2] * 3, [0] * 3)
    ones = torch.ones(1, 3, 2)
    layers = [
        evidence(ones, ones, tokens, layer=n) if on else None for n, on in enumerate(competing)
    ]
    own = [torch.full((1, 3), float(n)) if on else None for n, on in enumerate(competing)]
    notes: dict[str, Any] = {}
    found = shared_scores(FromSecond(), layers, own, notes)  # type: ignore[arg-type]
    return [None if one is None else float(one[0, 0]) for one in found], notes


def test_layers_take_the_scores_of_their_source() -> None:
    assert shared([True] * 4) == ([0, 1, 1, 1], {})


def test_the_next_layer_that_competes_stands_for_one_that_does_not() -> None:
    """Before, every layer went back to its own scores without a word: another method."""
    assert shared([True, False, False, True, True]) == (
        [0, None, None, 3, 3],
        {"score_sources": [[1, 3]]},
    )
