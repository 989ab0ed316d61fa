"""Guidance that names layers, guidance that names none, and where the aids read."""

from random import Random

import pytest
import torch

from tasm.suites.episodes import World
from training import layout
from training.curriculum import COURSES
from training.guidance import FAINT, GUIDANCE, HEAT, Pinned, Reading, Spread
from training.net import Pass, Shape

EIGHT = Shape(8, 8, 4, 384)


def batch_of(name, size=4, queries=2, ways=2):
    world = World(Random(5), "train")
    return layout.batch([COURSES[name].task(world, size, queries, ways) for _ in range(2)])


def looking(batch, layers=3, kv_heads=2, group=2, fill=None):
    """A pass whose attention is random, or falls on the right tokens alone in one layer's head."""
    episodes, length = batch.ids.shape
    generator = torch.Generator().manual_seed(0)
    shape = (episodes, kv_heads, group, length, length)
    attention = {
        layer: torch.rand(shape, generator=generator).softmax(-1) for layer in range(layers)
    }
    return Pass(torch.zeros(1), torch.zeros(1), [], attention)


def mass(guide, weight):
    """By hand: mean over rows of -log of the mass on the wanted columns."""
    logs = [
        -torch.log(weight[b, row][columns].sum() + FAINT)
        for (b, row), columns in zip(guide.rows, guide.columns, strict=True)
    ]
    return torch.stack(logs).mean()


def test_pinned_guidance_sums_what_the_named_heads_miss():
    batch = batch_of("bind")
    out = looking(batch, layers=5)
    expected = sum(
        mass(guide, out.attention[layer][:, head, group])
        for (layer, group, head), guide in batch.guides.items()
    )
    assert torch.allclose(Pinned().loss(batch, out), expected / 2, rtol=1e-5)
    assert set(Pinned().watch(batch, 8)) == {layer for layer, _, _ in batch.guides}


@pytest.mark.parametrize("name", ["bind", "needle", "late"])
def test_spread_guidance_asks_every_layer_and_whichever_head(name):
    batch = batch_of(name)
    out = looking(batch)
    assert Spread().watch(batch, 3) == (0, 1, 2)

    def least(values):
        values = torch.stack(values)
        return -HEAT * (torch.logsumexp(-values / HEAT, 0) - torch.log(torch.tensor(len(values))))

    expected = torch.zeros(())
    for guide in batch.guides.values():  # a guide of two heads stands there twice
        layers = [
            least([mass(guide, weight[:, h, g]) for h in range(2) for g in range(2)])
            for _, weight in sorted(out.attention.items())
        ]
        expected = expected + torch.stack(layers).sum() / 2
    assert torch.allclose(Spread().loss(batch, out), expected / 2, rtol=1e-4)


def test_spread_guidance_is_content_when_every_layer_has_one_head_that_looks():
    batch = batch_of("bind")
    out, (key, guide) = looking(batch), next(iter(batch.guides.items()))
    batch.guides = {key: guide}
    before = Spread().loss(batch, out)
    for layer, head in ((0, (1, 0)), (1, (0, 1)), (2, (1, 1))):  # another head in each
        weight = out.attention[layer][:, *head]
        for (b, row), columns in zip(guide.rows, guide.columns, strict=True):
            weight[b, row] = 0
            weight[b, row, columns] = 1 / len(columns)
    # Half a head's worth in three layers; the soft minimum of one zero among four is HEAT ln 4.
    assert Spread().loss(batch, out) < 3 / 4 * HEAT * 1.4 < before


def test_aids_read_layers_drawn_anew_what_decides_after_what_is_seen():
    rng = Random(0)
    drawn = [GUIDANCE["spread"](EIGHT, 0).reading(rng, 8) for _ in range(300)]
    assert {one.looks for one in drawn} == set(range(1, 7))
    assert all(0 < one.word < one.ask < 7 for one in drawn)
    assert GUIDANCE["pinned"](EIGHT, 0).reading(rng, 8) == Reading()


def test_drawn_guidance_is_the_pinned_one_in_other_layers_and_heads():
    batch = batch_of("late")
    drawn = GUIDANCE["drawn"](EIGHT, 3)
    moved = drawn.moved(batch).guides
    assert len(moved) == len(batch.guides)
    assert len({(layer, group, head) for layer, group, head in moved}) == len(moved)
    order = [drawn.layers[layer - 1] for layer in sorted({key[0] for key in batch.guides})]
    assert order == sorted(set(drawn.watch(batch, 8)))
    assert [id(guide) for guide in moved.values()] == [id(g) for g in batch.guides.values()]
    out = looking(batch, layers=8, kv_heads=4, group=2)
    expected = sum(mass(guide, out.attention[at][:, h, g]) for (at, g, h), guide in moved.items())
    assert torch.allclose(drawn.loss(batch, out), expected / 2, rtol=1e-5)
    layers = {tuple(GUIDANCE["drawn"](EIGHT, seed).layers) for seed in range(20)}
    assert len(layers) > 5
    assert {layer for four in layers for layer in four} == set(range(1, 8))
