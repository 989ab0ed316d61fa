"""CAMELoT's slots on five tokens, followed by hand."""

import torch

from tasm.compress.parts.slots import SlotFounders, SlotMerge, write_slots
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
