"""What merging methods make of a few tokens, worked out in plain Python for every head."""

import math
from typing import Any

import pytest
import torch

from tasm.compress.parts.reducers.nearest import NearestMerge
from tasm.compress.parts.reducers.next_values import NextValues
from tasm.compress.parts.reducers.residual import ResidualMerge
from tasm.compress.parts.reducers.runs import RunMerge
from tests.compress.examples import evidence, table
from tests.compress.methods.examples import received, selection

SYSTEM, TEMPLATE, QUESTION, IMAGE, ANSWER = range(5)
ROLES = [SYSTEM, QUESTION, IMAGE, IMAGE, IMAGE, QUESTION, ANSWER]
POSITIONS = [0, 1, 2, 3, 4, 5, 6]
TOKENS = table(ROLES, [-1, 0, 0, 0, 0, 0, 0], positions=POSITIONS)
KEYS = [
    [[9.0, 1.0], [1.0, 0.0], [3.0, 1.0], [0.0, 2.0], [1.0, 3.0], [2.0, 2.0], [0.5, 4.0]],
    [[1.0, 9.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [4.0, 1.0], [-1.0, 2.0], [1.0, -3.0]],
]
VALUES = [[[float(t + 1), h - t / 2.0] for t in range(7)] for h in range(2)]
KEPT = [[0, 1, 4, 6], [0, 2, 3, 5]]
SCORES = torch.tensor([[0.0, 5.0, 2.0, 1.0, 6.0, 3.0, 7.0], [0.0, 1.0, 6.0, 7.0, 3.0, 5.0, 2.0]])

Vector = list[float]


def case(**more: Any) -> Any:
    return evidence(KEYS, VALUES, TOKENS, **more)


def cosine(first: Vector, second: Vector) -> float:
    product = sum(a * b for a, b in zip(first, second, strict=True))
    return product / (math.hypot(*first) * math.hypot(*second))


def turned(vector: Vector, position: int) -> Vector:
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][position % 4]
    return [cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]]


def average(vectors: list[Vector], weights: list[float]) -> Vector:
    total = sum(weights)
    return [sum(w * v[d] for w, v in zip(weights, vectors, strict=True)) / total for d in range(2)]


def sink_of(head: int, source: int, alike: Any) -> tuple[int, float]:
    """The most similar kept token but the system prompt, and how similar."""
    best = max(KEPT[head][1:], key=lambda sink: alike(head, source, sink))
    return best, alike(head, source, best)


def by_keys(head: int, source: int, sink: int) -> float:
    return cosine(KEYS[head][source], KEYS[head][sink])


def by_both(head: int, source: int, sink: int) -> float:
    values = cosine(VALUES[head][source], VALUES[head][sink])
    return max(by_keys(head, source, sink), 0) * max(values, 0)


def leaving(head: int) -> list[int]:
    return [token for token in range(1, 7) if token not in KEPT[head]]


def groups(head: int, sources: list[int], alike: Any, least: float) -> dict[int, list[Any]]:
    """By sink, what joins it and how similar that is."""
    joined: dict[int, list[Any]] = {sink: [] for sink in KEPT[head]}
    for source in sources:
        sink, similarity = sink_of(head, source, alike)
        if similarity >= least:
            joined[sink].append((source, similarity))
    return joined


def check(reduced: Any, head: int, sink: int, key: Vector, value: Vector, count: int) -> None:
    slot = KEPT[head].index(sink)
    expected = torch.tensor(turned(key, POSITIONS[sink]))
    torch.testing.assert_close(reduced.keys[head, slot], expected)
    torch.testing.assert_close(reduced.values[head, slot], torch.tensor(value))
    assert reduced.originals[head, slot] == count


WEIGHTS = {
    "average": lambda similarity: (1.0, 1.0),
    "similarity": lambda similarity: (max(similarity, 0.0), 1.0),
    "exponential": lambda similarity: (math.exp(similarity), math.e),
    "count": lambda similarity: (1.0, 1.0),
}


@pytest.mark.parametrize("weighting", WEIGHTS)
@pytest.mark.parametrize("threshold", [-1.0, 0.9, "mean"])
def test_nearest(weighting: Any, threshold: Any) -> None:
    reducer = NearestMerge(weighting=weighting, threshold=threshold)
    reduced = reducer.reduce(case(), selection(7, KEPT), SCORES)
    merged = 0
    for head in range(2):
        nearest = [sink_of(head, source, by_keys)[1] for source in leaving(head)]
        least = sum(nearest) / len(nearest) if threshold == "mean" else threshold
        for sink, members in groups(head, leaving(head), by_keys, least).items():
            weights = [WEIGHTS[weighting](1.0)[1]]
            weights += [WEIGHTS[weighting](similarity)[0] for _, similarity in members]
            tokens = [sink, *(source for source, _ in members)]
            check(
                reduced,
                head,
                sink,
                average([KEYS[head][t] for t in tokens], weights),
                average([VALUES[head][t] for t in tokens], weights),
                len(tokens),
            )
            merged += len(members)
    assert 0 < merged <= 6


def test_look_m_pivot_merges_images_only() -> None:
    reducer = NearestMerge(weighting="pivot", among="images")
    reduced = reducer.reduce(case(), selection(7, KEPT), SCORES)
    sizes = []
    for head in range(2):
        sources = [source for source in leaving(head) if ROLES[source] == IMAGE]
        for sink, members in groups(head, sources, by_keys, -1.0).items():

            def pivotal(vectors: list[Vector], sink: int = sink, members: Any = members) -> Vector:
                halves = [average([vectors[e], vectors[sink]], [1, 1]) for e, _ in members]
                return average([vectors[sink], *halves], [1.0] * (1 + len(members)))

            count = 1 + len(members)
            check(reduced, head, sink, pivotal(KEYS[head]), pivotal(VALUES[head]), count)
            sizes.append(len(members))
    assert sum(sizes) == 3


def test_ems_drops_the_least_and_averages_directions() -> None:
    reducer = NearestMerge(
        weighting="exponential",
        similarity="keys*values",
        threshold=0.3,
        least_share=0.5,
        keep_norm="mean",
    )
    reduced = reducer.reduce(case(), selection(7, KEPT), SCORES)
    merged = 0
    for head in range(2):
        ranked = sorted(leaving(head), key=lambda token: -float(SCORES[head, token]))
        sources = ranked[: math.ceil(len(ranked) / 2)]
        for sink, members in groups(head, sources, by_both, 0.3).items():
            tokens = [sink, *(source for source, _ in members)]
            weights = [math.e, *(math.exp(similarity) for _, similarity in members)]
            lengths = [math.hypot(*KEYS[head][t]) for t in tokens]
            units = [[x / math.hypot(*KEYS[head][t]) for x in KEYS[head][t]] for t in tokens]
            direction = average(units, weights)
            length = sum(w * n for w, n in zip(weights, lengths, strict=True)) / sum(weights)
            key = [x / math.hypot(*direction) * length for x in direction]
            value = average([VALUES[head][t] for t in tokens], weights)
            check(reduced, head, sink, key, value, len(tokens))
            merged += len(members)
    assert merged >= 2


@pytest.mark.parametrize(("budget", "merges"), [(4, False), (5, True)])
def test_layers_that_keep_more_than_the_mean_do_not_merge(budget: int, merges: bool) -> None:
    reducer = NearestMerge(weighting="count", count_bias=1.0, layers="below the mean")
    one = case(budget=budget)
    reduced = reducer.reduce(one, selection(7, KEPT), SCORES)
    assert reduced.bias is not None
    if merges:
        assert reduced.originals.sum() == 14
        return
    for head in range(2):
        assert reduced.originals[head].tolist() == [1.0] * 4
        assert reduced.bias[head].tolist() == [0.0] * 4
        assert torch.equal(reduced.keys[head], one.keys[head, KEPT[head]])
        assert reduced.values[head].tolist() == [VALUES[head][t] for t in KEPT[head]]


def test_tome_weighs_what_tokens_stand_for() -> None:
    counts = [[1, 2, 1, 3, 1, 1, 1], [1, 1, 4, 1, 2, 1, 1]]
    reducer = NearestMerge(weighting="count", count_bias=1.0)
    reduced = reducer.reduce(case(counts=counts), selection(7, KEPT), SCORES)
    assert reduced.bias is not None
    for head in range(2):
        for sink, members in groups(head, leaving(head), by_keys, -1.0).items():
            tokens = [sink, *(source for source, _ in members)]
            weights = [float(counts[head][t]) for t in tokens]
            key = average([KEYS[head][t] for t in tokens], weights)
            value = average([VALUES[head][t] for t in tokens], weights)
            check(reduced, head, sink, key, value, int(sum(weights)))
            slot = KEPT[head].index(sink)
            assert reduced.bias[head, slot] == pytest.approx(math.log(sum(weights)), abs=1e-6)


def test_rotated_keys_are_averaged_as_cached() -> None:
    reduced = NearestMerge(keys="rotated").reduce(case(), selection(7, KEPT), SCORES)
    cached = [[turned(KEYS[h][t], POSITIONS[t]) for t in range(7)] for h in range(2)]
    for head in range(2):
        joined: dict[int, list[int]] = {sink: [sink] for sink in KEPT[head]}
        for source in leaving(head):
            best = max(KEPT[head][1:], key=lambda s: cosine(cached[head][source], cached[head][s]))
            joined[best].append(source)
        for slot, sink in enumerate(KEPT[head]):
            members = joined[sink]
            expected = average([cached[head][t] for t in members], [1.0] * len(members))
            torch.testing.assert_close(reduced.keys[head, slot], torch.tensor(expected))


def test_values_alone() -> None:
    one = case()
    reduced = NearestMerge(merge="values").reduce(one, selection(7, KEPT), SCORES)
    kept = torch.stack([one.keys[head, KEPT[head]] for head in range(2)])
    assert torch.equal(reduced.keys, kept)
    assert not torch.equal(reduced.values[:, 1:], torch.tensor(VALUES)[:, 1:4])


def test_zeromerge_counts_and_bias() -> None:
    # A third of the three kept tokens that compete: one residual slot, the lowest-scored.
    reduced = ResidualMerge(residual_share=1 / 3, alpha=0.5).reduce(
        case(), selection(7, KEPT), SCORES
    )
    assert reduced.bias is not None
    for head in range(2):
        residual = min(KEPT[head][1:], key=lambda token: float(SCORES[head, token]))
        for slot, sink in enumerate(KEPT[head]):
            tokens = [sink, *leaving(head)] if sink == residual else [sink]
            ones = [1.0] * len(tokens)
            key = average([KEYS[head][t] for t in tokens], ones)
            value = average([VALUES[head][t] for t in tokens], ones)
            check(reduced, head, sink, key, value, len(tokens))
            assert reduced.bias[head, slot] == pytest.approx(0.5 * math.log(len(tokens)), abs=1e-6)


def test_zeromerge_joins_the_most_similar_slot() -> None:
    counts = [[1, 2, 1, 3, 5, 1, 1], [1, 1, 4, 1, 2, 1, 1]]
    reduced = ResidualMerge(residual_share=0.6).reduce(
        case(counts=counts), selection(7, KEPT), SCORES
    )
    for head in range(2):
        slots = sorted(KEPT[head][1:], key=lambda token: float(SCORES[head, token]))[:2]
        joined: dict[int, list[int]] = {sink: [sink] for sink in KEPT[head]}
        for source in leaving(head):
            joined[max(slots, key=lambda s: by_keys(head, source, s))].append(source)
        for sink, tokens in joined.items():
            weights = [float(counts[head][t]) for t in tokens]
            key = average([KEYS[head][t] for t in tokens], weights)
            value = average([VALUES[head][t] for t in tokens], weights)
            check(reduced, head, sink, key, value, int(sum(weights)))


MASS = [[9.0, 1.0, 2.0, 1.0, 6.0, 3.0, 7.0], [9.0, 1.0, 6.0, 7.0, 3.0, 5.0, 2.0]]


@pytest.mark.parametrize("value_scale", ["size", "one"])
def test_kvmerger_runs_and_gaussian_weights(value_scale: Any) -> None:
    # Ranks as scores: the pivot of a run is found by attention, not by them.
    ranks = -SCORES
    reduced = RunMerge(threshold=0.5, value_scale=value_scale).reduce(
        case(records=received(MASS)), selection(7, KEPT), ranks
    )
    merged = 0
    for head in range(2):
        runs: list[list[int]] = [[1]]
        for token in range(2, 7):
            if cosine(KEYS[head][token], KEYS[head][token - 1]) >= 0.5:
                runs[-1].append(token)
            else:
                runs.append([token])
        assert len(runs) > 1
        joined: dict[int, list[int]] = {sink: [] for sink in KEPT[head]}
        for run in runs:
            kept = [token for token in run if token in KEPT[head]]
            if kept:
                pivot = max(kept, key=lambda token: MASS[head][token])
                joined[pivot] = [token for token in run if token not in KEPT[head]]
        for sink, members in joined.items():
            far = [math.dist(KEYS[head][sink], KEYS[head][t]) for t in members]
            sigma = sum(far) / (math.sqrt(2) * (len(members) + 1))
            weights = [1.0, *(math.exp(-(d**2) / (2 * sigma**2)) for d in far)]
            tokens = [sink, *members]
            key = average([KEYS[head][t] for t in tokens], weights)
            value = average([VALUES[head][t] for t in tokens], weights)
            if value_scale == "size":
                value = [x * len(tokens) for x in value]
            check(reduced, head, sink, key, value, len(tokens))
            merged += len(members)
    assert merged >= 3


@pytest.mark.parametrize("values", ["added", "averaged"])
def test_cam_adds_values_to_the_next_kept_tokens(values: Any) -> None:
    # Attention so large that every draw merges.
    mass = [[9.0] + [100.0 if t not in KEPT[head] else 1.0 for t in range(1, 7)] for head in (0, 1)]
    one = case(records=received(mass))
    reducer = NextValues(following=2, values=values)
    reduced = reducer.reduce(one, selection(7, KEPT), SCORES)
    for head in range(2):
        expected = {sink: list(VALUES[head][sink]) for sink in KEPT[head]}
        weight = dict.fromkeys(KEPT[head], 1.0)
        for source in leaving(head):
            window = [sink for sink in KEPT[head] if sink > source][:2]
            for sink in window:
                weight[sink] += 1 / len(window)
                for d in range(2):
                    expected[sink][d] += VALUES[head][source][d] / len(window)
        for slot, sink in enumerate(KEPT[head]):
            by = weight[sink] if values == "averaged" else 1.0
            wanted = torch.tensor(expected[sink]) / by
            torch.testing.assert_close(reduced.values[head, slot], wanted)
            assert torch.equal(reduced.keys[head, slot], one.keys[head, sink])


def test_cam_draws_by_attention() -> None:
    # A token with no attention never merges; one with half the window's does so in half the draws.
    mass = [[9.0, 0.0, 4.0, 4.0, 4.0, 4.0, 8.0]]
    merged = []
    for seed in range(300):
        one = evidence(KEYS[:1], VALUES[:1], TOKENS, records=received(mass), seed=seed)
        reducer = NextValues(following=1, values="added")
        reduced = reducer.reduce(one, selection(7, [[0, 6]]), SCORES[:1])
        gained = reduced.values[0, 1, 0].item() - VALUES[0][6][0]
        assert gained in [sum(parts) for parts in _sums([3.0, 4.0, 5.0, 6.0])]
        merged.append(gained / 18)
    assert 0.4 < sum(merged) / len(merged) < 0.6


def _sums(values: list[float]) -> list[list[float]]:
    return [
        [value for bit, value in enumerate(values) if number >> bit & 1]
        for number in range(2 ** len(values))
    ]
