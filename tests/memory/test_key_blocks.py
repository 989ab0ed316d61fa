"""Blocks of a bank judged by their keys, against plain loops over tokens."""

import math
from collections.abc import Callable

import pytest
import torch

from tasm.memory import Bank, LayerTokens, TokenTable
from tasm.memory.retrieval.granularity import make_granularity

HEADS, DIM, COUNTS, TOTAL = 2, 3, (70, 55), 120


def scene() -> tuple[LayerTokens, torch.Tensor, TokenTable]:
    generator = torch.Generator().manual_seed(3)
    index = torch.stack(
        [torch.randperm(TOTAL, generator=generator)[:70].sort().values for _ in range(HEADS)]
    )
    tokens = LayerTokens(
        torch.randn(HEADS, 70, DIM, generator=generator),
        torch.randn(HEADS, 70, DIM, generator=generator),
        index.to(torch.int32),
        lengths=COUNTS,
    )
    query = torch.randn(2, HEADS, DIM, generator=generator)
    # Demonstrations of 30 tokens: 10 of text, an image of 18, 2 of text.
    place = [
        [t // 30, 0, t % 30 // 6, t % 6] if 10 <= t % 30 < 28 else [-1] * 4 for t in range(TOTAL)
    ]
    table = TokenTable.make(
        positions=torch.arange(TOTAL)[None],
        roles=torch.tensor([3 if row[0] >= 0 else 2 for row in place]),
        demonstration=torch.arange(TOTAL) // 30,
        place=torch.tensor(place),
    )
    return tokens, query, table


def dot(first: list[float], second: list[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def page_score(query: list[float], keys: list[list[float]]) -> float:
    columns = list(zip(*keys, strict=True))
    return sum(max(q * max(c), q * min(c)) for q, c in zip(query, columns, strict=True))


def block_score(query: list[float], keys: list[list[float]]) -> float:
    centre = [sum(column) for column in zip(*keys, strict=True)]
    typical = sorted(keys, key=lambda key: -dot(key, centre))[:4]
    return sum(dot(query, key) for key in typical) / len(typical)


def image_score(query: list[float], keys: list[list[float]]) -> float:
    mean = [sum(column) / len(keys) for column in zip(*keys, strict=True)]
    return dot(query, mean) / math.hypot(*query) / math.hypot(*mean)


@pytest.mark.parametrize(
    ("name", "block_of", "score"),
    [
        ("page", lambda t: t // 16, page_score),
        ("block", lambda t: t // 32, block_score),
        ("image-mean", lambda t: (t // 30, 10 <= t % 30 < 28), image_score),
    ],
)
def test_best_blocks(
    name: str,
    block_of: Callable[[int], object],
    score: Callable[[list[float], list[list[float]]], float],
) -> None:
    tokens, query, table = scene()
    found = Bank([tokens]).search(0, query, 40, make_granularity(name, table))
    for row in range(2):
        for head in range(HEADS):
            asked = query[row, head].tolist()
            keys = tokens.keys[head].tolist()
            blocks: dict[object, list[int]] = {}
            for number in range(COUNTS[head]):
                blocks.setdefault(block_of(int(tokens.index[head, number])), []).append(number)
            order: list[int] = []
            for members in sorted(
                blocks.values(), key=lambda members: -score(asked, [keys[m] for m in members])
            ):
                order += sorted(members, key=lambda member: -dot(asked, keys[member]))
            expected = tokens.index[head, order[:40]].tolist()
            assert found.index[row, head].tolist() == expected


def test_layers_take_what_a_selecting_one_chose() -> None:
    tokens, query, table = scene()
    generator = torch.Generator().manual_seed(5)
    other = LayerTokens(
        torch.randn(HEADS, 70, DIM, generator=generator), tokens.values, tokens.index, None, COUNTS
    )
    bank = Bank([tokens, *[other] * 4])
    strategy = make_granularity("selecting-layers", table)
    plain = [bank.search(layer, query, 10).index for layer in range(5)]
    for _ in range(2):
        found = [bank.search(layer, query, 10, strategy).index for layer in range(5)]
        assert torch.equal(found[0], plain[0])
        assert torch.equal(found[4], plain[4])
        for layer in (1, 2, 3):
            assert torch.equal(found[layer].sort(-1).values, plain[0].sort(-1).values)
            assert not torch.equal(found[layer].sort(-1).values, plain[layer].sort(-1).values)


@pytest.mark.parametrize("name", ["page", "block", "image-mean", "selecting-layers"])
def test_each_query_head_of_a_group_chooses_blocks_and_the_earliest_come(name: str) -> None:
    """What any head has first comes first; two heads that ask the same bring what one would."""
    tokens, query, table = scene()
    other = torch.randn(query.shape, generator=torch.Generator().manual_seed(8))
    bank = Bank([tokens])

    def found(asked: torch.Tensor, k: int = 40) -> torch.Tensor:
        return bank.search(0, asked, k, make_granularity(name, table)).index

    assert torch.equal(found(torch.stack([query, query], 2)), found(query))
    both = found(torch.stack([query, other], 2), 30)
    for row in range(2):
        for head in range(HEADS):
            choices = [found(asked, 70)[row, head].tolist() for asked in (query, other)]
            rank = {
                token: min(choice.index(token) for choice in choices if token in choice)
                for token in tokens.index[head, : COUNTS[head]].tolist()
            }
            ranks = [rank[token] for token in both[row, head].tolist()]
            assert ranks == sorted(rank.values())[:30]
