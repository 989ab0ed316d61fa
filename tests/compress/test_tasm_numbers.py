"""TASM's numbers on examples small enough to work out in plain Python: two heads, few tokens."""

import math
from typing import Any

import pytest
import torch

from tasm.compress.evidence import Selection
from tasm.compress.parts.reducers.merge import SpatialMerge
from tasm.compress.parts.scorers.tasm import TaskScorer, depth_schedule
from tasm.compress.parts.task_vector import task_vector
from tasm.compress.records.centroids import Centroids, TaskCentroids
from tasm.compress.records.received import AttentionReceived, Received
from tests.compress.examples import evidence, table

SYSTEM, TEMPLATE, QUESTION, IMAGE, ANSWER = range(5)

# One system token; a demonstration of two question tokens, two image tokens, one answer token.
ROLES = [SYSTEM, QUESTION, QUESTION, IMAGE, IMAGE, ANSWER]
KEYS = [
    [[9.0, 9.0], [1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [3.0, 4.0], [2.0, 2.0]],
    [[-9.0, 1.0], [0.0, 1.0], [0.0, 3.0], [-1.0, 0.0], [4.0, 3.0], [1.0, 2.0]],
]
VALUES = [
    [[50.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 4.0], [0.0, 1.0], [6.0, 8.0]],
    [[50.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 4.0], [0.0, 1.0], [0.0, 8.0]],
]
MASS = [[7.0, 1.0, 0.0, 2.0, 4.0, 3.0], [7.0, 0.0, 1.0, 0.0, 2.0, 2.0]]


def mean(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def tau(head: int, question_tokens: list[int]) -> list[float]:
    question = mean([KEYS[head][token] for token in question_tokens])
    answer = KEYS[head][5]
    difference = [a - q for a, q in zip(answer, question, strict=True)]
    length = math.hypot(*difference)
    return [x / length for x in difference]


def recorded(question_tokens: list[int]) -> Centroids:
    return Centroids(
        question=torch.tensor(
            [[sum(KEYS[h][t][d] for t in question_tokens) for d in range(2)] for h in range(2)]
        ),
        answer=torch.tensor([KEYS[h][5] for h in range(2)]),
        questions=len(question_tokens),
        answers=1,
    )


def case(scorer: TaskScorer, question_tokens: list[int], **more: Any) -> Any:
    attention, centroids = scorer.records
    assert attention == AttentionReceived("answers")
    assert isinstance(centroids, TaskCentroids)
    received = Received(torch.tensor(MASS), torch.ones(1, 6))
    return evidence(
        KEYS,
        VALUES,
        table(ROLES, [-1, 0, 0, 0, 0, 0]),
        records={attention: received, centroids: recorded(question_tokens)},
        **more,
    )


@pytest.mark.parametrize("question_tokens", [[1, 2], [1, 2, 3, 4]])
def test_task_vector(question_tokens: list[int]) -> None:
    scorer = TaskScorer()
    one = case(scorer, question_tokens)
    found = task_vector(one, recorded(question_tokens), "keys")
    expected = torch.tensor([tau(head, question_tokens) for head in range(2)])
    torch.testing.assert_close(found, expected)


def literal_task_scores(head: int, gamma: float) -> list[float]:
    direction = tau(head, [1, 2])
    largest = max(math.hypot(*value) for value in VALUES[head])
    scores = []
    for key, value in zip(KEYS[head], VALUES[head], strict=True):
        cosine = sum(a * b for a, b in zip(key, direction, strict=True)) / math.hypot(*key)
        scores.append(max(cosine, 0) + gamma * math.hypot(*value) / largest)
    return scores


def test_literal_task_score() -> None:
    scorer = TaskScorer(scaling="literal", value_weight=0.7, question_tokens="text")
    found = scorer._task_score(case(scorer, [1, 2]))
    expected = [literal_task_scores(head, 0.7) for head in range(2)]
    torch.testing.assert_close(found, torch.tensor(expected))


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def unit(values: list[float]) -> list[float]:
    """[0, 1] over all but the system token, the top hundredth clipped; the system token gets 0."""
    competing = values[1:]
    low, high = min(competing), percentile(competing, 0.99)
    return [0.0] + [min(max((value - low) / (high - low), 0), 1) for value in competing]


def smoothed(values: list[float], window: int) -> list[float]:
    reach = window // 2
    return [
        sum(values[max(0, i - reach) : i + reach + 1])
        / len(values[max(0, i - reach) : i + reach + 1])
        for i in range(len(values))
    ]


def test_score() -> None:
    scorer = TaskScorer(value_weight=0.5, pool=3, question_tokens="text")
    found = scorer.score(case(scorer, [1, 2], layer=1, layers=4))
    share = 0.1 + 0.8 / (1 + math.exp(-10 * (1 / 4 - 0.5)))
    for head in range(2):
        direction = tau(head, [1, 2])
        cosines = [
            max(sum(a * b for a, b in zip(key, direction, strict=True)) / math.hypot(*key), 0)
            for key in KEYS[head]
        ]
        norms = [math.hypot(*value) for value in VALUES[head]]
        mixed = [a + 0.5 * b for a, b in zip(unit(cosines), unit(norms), strict=True)]
        task, attention = unit(mixed), unit(smoothed(MASS[head], 3))
        expected = [share * t + (1 - share) * a for t, a in zip(task, attention, strict=True)]
        torch.testing.assert_close(found[head, 1:], torch.tensor(expected[1:]))


def test_depth_schedule() -> None:
    # methods.md: λ runs from 0.105 at the bottom over 0.5 in the middle to 0.895 at the top.
    assert depth_schedule(0, 28) == pytest.approx(0.1 + 0.8 / (1 + math.exp(5)))
    assert depth_schedule(14, 28) == pytest.approx(0.5)
    assert depth_schedule(28, 28) == pytest.approx(0.1 + 0.8 / (1 + math.exp(-5)))


# A 2×3 grid of image tokens (indices 1 to 6) of one image, then two text tokens of the same
# demonstration, then one text token of another one. Index 0 is the system prompt.
GRID_ROLES = [SYSTEM, *[IMAGE] * 6, QUESTION, ANSWER, QUESTION]
GRID_DEMONSTRATION = [-1, *[0] * 8, 1]
GRID_PLACE = [
    [-1] * 4,
    *[[0, 0, h, w] for h in range(2) for w in range(3)],
    [-1] * 4,
    [-1] * 4,
    [-1] * 4,
]
GRID_KEYS = [
    [[1, 1], [1, 0], [4, 1], [0, 1], [2, 0], [1, 3], [3, 1], [1, 1], [2, 1], [1, 1]],
    [[1, 1], [0, 2], [1, 2], [3, 0], [0, 1], [1, 1], [5, 1], [2, 1], [1, 3], [2, 1]],
]
GRID_VALUES = [[[float(t), h + 1.0] for t in range(10)] for h in range(2)]
KEPT = [[0, 1, 6, 8], [0, 2, 3, 7]]
POSITIONS = [0, 1, 2, 3, 1, 2, 3, 4, 5, 6]


def cosine(first: list[float], second: list[float]) -> float:
    product = sum(a * b for a, b in zip(first, second, strict=True))
    return product / (math.hypot(*first) * math.hypot(*second))


def reaches(source: int, sink: int, metric: str, window: int) -> bool:
    if sink == 0 or GRID_DEMONSTRATION[source] != GRID_DEMONSTRATION[sink]:
        return False
    first, second = GRID_PLACE[source], GRID_PLACE[sink]
    if (first[0] < 0) != (second[0] < 0):
        return False
    if first[0] < 0:
        return True
    steps = abs(first[2] - second[2]), abs(first[3] - second[3])
    return max(steps) <= (window - 1) // 2 if metric == "chebyshev" else sum(steps) <= window


def turned(vector: list[float], position: int) -> list[float]:
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][position % 4]
    return [cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]]


@pytest.mark.parametrize(("sharpness", "sink_weight"), [(1.0, "one"), (4.0, "itself")])
@pytest.mark.parametrize("keys", ["plain", "rotated"])
@pytest.mark.parametrize(
    ("metric", "window"), [("chebyshev", 3), ("manhattan", 1), ("manhattan", 3)]
)
def test_matching_and_merging(
    metric: Any, window: int, keys: Any, sharpness: float, sink_weight: Any
) -> None:
    tokens = table(GRID_ROLES, GRID_DEMONSTRATION, GRID_PLACE, POSITIONS)
    one = evidence(GRID_KEYS, GRID_VALUES, tokens)
    kept = torch.zeros(2, 10, dtype=torch.bool)
    for head in range(2):
        kept[head, KEPT[head]] = True
    selection = Selection(kept, torch.zeros_like(kept))
    reducer = SpatialMerge(
        window=window,
        metric=metric,
        keys=keys,
        count_bias=1.0,
        sharpness=sharpness,
        sink_weight=sink_weight,
    )
    reduced = reducer.reduce(one, selection, torch.zeros(2, 10))
    merged_anything = False
    for head in range(2):
        seen = [
            GRID_KEYS[head][t] if keys == "plain" else turned(GRID_KEYS[head][t], POSITIONS[t])
            for t in range(10)
        ]
        joined: dict[int, list[tuple[int, float]]] = {sink: [] for sink in KEPT[head]}
        for source in range(10):
            if source in KEPT[head]:
                continue
            options = [
                (cosine(seen[source], seen[sink]), sink)
                for sink in KEPT[head]
                if reaches(source, sink, metric, window)
            ]
            if options and max(options)[0] >= 0.5:
                similarity, sink = max(options)
                joined[sink].append((source, math.exp(sharpness * similarity)))
                merged_anything = True
        for slot, sink in enumerate(KEPT[head]):
            own = math.exp(sharpness) if sink_weight == "itself" else 1.0
            members = [(sink, own), *joined[sink]]
            total = sum(weight for _, weight in members)
            key = [sum(w * seen[t][d] for t, w in members) / total for d in range(2)]
            value = [sum(w * GRID_VALUES[head][t][d] for t, w in members) / total for d in range(2)]
            expected = turned(key, POSITIONS[sink]) if keys == "plain" else key
            torch.testing.assert_close(reduced.keys[head, slot], torch.tensor(expected))
            torch.testing.assert_close(reduced.values[head, slot], torch.tensor(value))
            assert reduced.originals[head, slot] == len(members)
            assert reduced.bias is not None
            assert reduced.bias[head, slot] == pytest.approx(math.log(len(members)))
    assert merged_anything


def test_banked_tokens_may_stay_out_of_the_merge() -> None:
    tokens = table(GRID_ROLES, GRID_DEMONSTRATION, GRID_PLACE, POSITIONS)
    one = evidence(GRID_KEYS, GRID_VALUES, tokens)
    kept = torch.zeros(2, 10, dtype=torch.bool)
    kept[:, [0, 1, 6, 8]] = True
    selection = Selection(kept, ~kept)
    untouched = SpatialMerge(sources="unbanked").reduce(one, selection, torch.zeros(2, 10))
    assert untouched.originals.tolist() == [[1.0] * 4] * 2
    assert SpatialMerge().reduce(one, selection, torch.zeros(2, 10)).originals.sum() > 8
