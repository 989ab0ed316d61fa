"""CAMELoT's slots on five tokens, followed by hand, and against a plain version on many."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tasm.compress.parts.slot_writing import write_slots
from tasm.compress.parts.slots import SlotFounders, SlotMerge
from tests.compress.examples import evidence, table
from tests.compress.methods.examples import selection

# Head 0, two slots: token 1 founds a slot, 2 another, 3 joins the first ((1, 0) and (1, .1)), 4 is
# unlike both and replaces the older one (2's), 5 joins the first again. Head 1: everything joins.
KEYS = [
    [[7.0, 7.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [-1.0, 0.0], [3.0, 0.0]],
    [[7.0, 7.0], [1.0, 1.0], [2.0, 2.0], [1.0, 1.1], [3.0, 3.0], [1.0, 1.0]],
]
VALUES = [[[float(token), head + 1.0] for token in range(6)] for head in range(2)]
TOKENS = table([0, 2, 2, 2, 2, 4], [-1, 0, 0, 0, 0, 0], positions=[0] * 6)


def test_write_rule() -> None:
    one = evidence(KEYS, VALUES, TOKENS)
    found = write_slots(torch.tensor(KEYS), one.counts, one.competing, 2, 0.9)
    assert found.tolist() == [[-1, 1, -1, 1, 4, 1], [-1, 1, 1, 1, 1, 1]]


def test_founders_come_first() -> None:
    scores = SlotFounders().score(evidence(KEYS, VALUES, TOKENS, budget=3))
    order = scores[:, 1:].argsort(dim=1, descending=True) + 1
    assert order[0, :2].tolist() == [4, 1]
    # Head 1 has one slot only: the rest of its budget goes to the most recent.
    assert order[1, :2].tolist() == [1, 5]


def test_slots_are_means() -> None:
    one = evidence(KEYS, VALUES, TOKENS, budget=3)
    reduced = SlotMerge().reduce(one, selection(6, [[0, 1, 4], [0, 1, 5]]), torch.zeros(2, 6))
    # Tokens 1, 3 and 5 of head 0; 1 to 4 of head 1, as 5 is kept by itself.
    assert reduced.originals.tolist() == [[1, 3, 1], [1, 4, 1]]
    torch.testing.assert_close(reduced.keys[0, 1], torch.tensor([5 / 3, 0.1 / 3]))
    torch.testing.assert_close(reduced.values[0, 1], torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(reduced.keys[1, 1], torch.tensor([7 / 4, 7.1 / 4]))
    torch.testing.assert_close(reduced.values[1, 1], torch.tensor([2.5, 2.0]))
    torch.testing.assert_close(reduced.keys[0, 2], torch.tensor([-1.0, 0.0]))


def one_by_one(
    keys: Tensor, counts: Tensor, writes: Tensor, slots: int, threshold: float
) -> list[int]:
    """One head's tokens written one after the other, as the paper says it."""
    held: list[tuple[Tensor, float, int]] = []  # key, count, founder; longest left alone first
    joined = [-1] * len(keys)
    for token, key in enumerate(keys):
        if not writes[token]:
            continue
        count, founder = float(counts[token]), token
        near = [float(cosine_similarity(key, slot, dim=0)) for slot, _, _ in held]
        if near and max(near) > threshold:
            slot, old, founder = held.pop(near.index(max(near)))
            key, count = (old * slot + count * key) / (old + count), old + count
        elif len(held) == slots:
            held.pop(0)
        held.append((key, count, founder))
        joined[token] = founder
    alive = {founder for _, _, founder in held}
    return [founder if founder in alive else -1 for founder in joined]


def drifting(heads: int, tokens: int) -> Tensor:
    return torch.randn(heads, tokens, 8, dtype=torch.float64).mul(0.3).cumsum(1)


def alike(heads: int, tokens: int) -> Tensor:
    centres = torch.randn(heads, 9, 8, dtype=torch.float64)
    noise = torch.randn(heads, tokens, 8, dtype=torch.float64)
    return centres[:, torch.randint(9, (tokens,))] + 0.4 * noise


@pytest.mark.parametrize("make", [drifting, alike])
@pytest.mark.parametrize("slots", [1, 3, 40])
def test_blocks_write_what_one_after_the_other_do(
    make: Callable[[int, int], Tensor], slots: int
) -> None:
    torch.manual_seed(slots)
    keys, counts = make(2, 150), torch.randint(1, 4, (2, 150)).double()
    writes = torch.rand(2, 150) > 0.1
    found = write_slots(keys, counts, writes, slots, 0.9)
    expected = [one_by_one(keys[head], counts[head], writes[head], slots, 0.9) for head in range(2)]
    assert found.tolist() == expected
    if slots == 3:  # tokens join, slots are replaced
        members = found[found >= 0]
        assert len(members.unique()) < len(members) < int(writes.sum())
