"""Random numbers belong to a seed and a token: chunks and seeds differ, repeats agree."""

import torch

from tasm.compress.draws import normal, uniform
from tasm.compress.recipes.table import find_recipe
from tasm.memory import TaskMemory
from tests.compress.tiny_backbone import TinyBackbone, build_tiny, tiny_backbone


def index(first: int, stop: int, heads: int = 2) -> torch.Tensor:
    return torch.arange(first, stop).expand(heads, -1)


def test_numbers_are_uniform() -> None:
    drawn = uniform(0, "bank", 0, index(0, 20_000))
    assert drawn.dtype == torch.float32 and float(drawn.min()) >= 0 and float(drawn.max()) < 1
    counts = torch.histc(drawn, 20, 0, 1)
    # 2,000 expected in each of 20, with a standard deviation of 43.6.
    assert counts.sum() == 40_000 and (counts - 2000).abs().max() < 5 * 43.6
    following = torch.corrcoef(torch.stack([drawn[0, :-1], drawn[0, 1:]]))[0, 1]
    assert abs(float(following)) < 0.04


def test_a_token_has_its_own_number() -> None:
    whole = uniform(3, "bank", 1, index(0, 50))
    assert torch.equal(whole[:, 20:], uniform(3, "bank", 1, index(20, 50)))
    assert torch.equal(whole, uniform(3, "bank", 1, index(0, 50)))
    others = [
        uniform(4, "bank", 1, index(0, 50)),
        uniform(3, "importance", 1, index(0, 50)),
        uniform(3, "bank", 2, index(0, 50)),
        whole.flip(0),
        uniform(3, "bank", 1, index(50, 100)),
    ]
    for other in others:
        assert int((other == whole).sum()) < 3
    assert uniform(-(2**70), "bank", 0, index(0, 5)).isfinite().all()


def test_directions_are_normal() -> None:
    drawn = normal(0, "direction", 0, 4, 5000)
    assert abs(float(drawn.mean())) < 0.05 and abs(float(drawn.std()) - 1) < 0.05
    assert torch.equal(drawn, normal(0, "direction", 0, 4, 5000))
    assert not torch.equal(drawn, normal(1, "direction", 0, 4, 5000))


def kept(memory: TaskMemory) -> list[set[int]]:
    return [set(row) for layer in memory.core if layer is not None for row in layer.index.tolist()]


def banked(memory: TaskMemory) -> list[set[int]]:
    assert memory.bank is not None
    held = [layer.held() for layer in memory.bank.layers if layer is not None]
    return [set(row) for layer in held for row in layer.index.tolist()]


def random(backbone: TinyBackbone, **given: object) -> TaskMemory:
    return build_tiny(backbone, 12, recipe="random", core="40", bank="30", **given)


def test_a_stream_draws_what_a_joint_build_draws() -> None:
    backbone = tiny_backbone()
    joint = random(backbone)
    for chunk in (1, 40, 1000):
        assert kept(random(backbone, mode="streaming", chunk_tokens=chunk)) == kept(joint)
    assert kept(random(backbone)) == kept(joint) and kept(random(backbone, seed=1)) != kept(joint)


def test_chunks_bank_different_tokens() -> None:
    """Where each chunk drew the same numbers, the same places of every chunk were banked."""
    backbone = tiny_backbone()
    recipe = find_recipe("tasm-even-layers")
    assert recipe.bank_choice == "random"

    def built(**given: object) -> TaskMemory:
        return build_tiny(
            backbone, 12, recipe=recipe, core="10", bank="80", mode="streaming", chunk_tokens=1,
            **given,
        )  # fmt: skip

    memory = built()
    length = (memory.logical_length - 4) // 12
    places = [[set() for _ in range(12)] for _ in banked(memory)]
    for row, tokens in zip(places, banked(memory), strict=True):
        for token in tokens:
            row[(token - 4) // length].add((token - 4) % length)
    for row in places:
        assert len({frozenset(chunk) for chunk in row}) > 6
    assert banked(built()) == banked(memory)
    assert banked(built(seed=1)) != banked(memory)


def test_merging_draws_by_seed() -> None:
    backbone = tiny_backbone()
    first, again, other = (
        build_tiny(backbone, 8, recipe="cam", core="30", seed=seed) for seed in (0, 0, 1)
    )
    for layer, (one, two, three) in enumerate(zip(first.core, again.core, other.core, strict=True)):
        assert one is not None and two is not None and three is not None
        assert torch.equal(one.values, two.values), layer
        assert torch.equal(one.index, three.index)
    differ = [
        not torch.equal(one.values, three.values)
        for one, three in zip(first.core, other.core, strict=True)
        if one is not None and three is not None
    ]
    assert any(differ)
