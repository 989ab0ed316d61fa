"""A thousand times a memory's files are damaged: refused, or bit for bit what they were."""

from tests.memory.mutations import try_many


def test_a_thousand_mutations_are_refused_or_without_effect(tmp_path):
    came, faults = try_many(1000, seed=0, work=tmp_path)
    assert not faults, "\n".join(faults)
    assert sum(came.values()) == 1000
    assert came["bytes: refused"] > 450 and came["bytes: accepted"] < 10
    assert came["field: refused"] > 60 and came["field: accepted"] > 10
    assert came["mended: refused"] > 30 and came["mended: accepted"] > 10
