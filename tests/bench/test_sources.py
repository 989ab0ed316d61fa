"""Episodes drawn from the bundled suites."""

import pytest

from tasm.bench.sources import parse_suites
from tasm.errors import InputError


def episode(text, seed=0):
    (source,) = parse_suites(text, queries=6, split="held-out")
    with source.open(seed) as found:
        return found


def test_a_seed_is_one_task():
    first, again, other = episode("bind@12"), episode("bind@12"), episode("bind@12", seed=1)
    assert len(first.queries) == 6
    assert [d.content_hash for d in first.demonstrations] == [
        d.content_hash for d in again.demonstrations
    ]
    assert {d.content_hash for d in first.demonstrations}.isdisjoint(
        d.content_hash for d in other.demonstrations
    )


def test_needles_know_their_depth():
    found = episode("needle@11")
    assert len(found.demonstrations) == 11
    for query, depth in zip(found.queries, found.depths, strict=True):
        named = found.demonstrations[round(depth * 10)]
        assert query.question.split()[0] == named.question.split()[0]
    assert len(set(found.depths)) > 1


def test_other_suites_have_no_depth():
    assert set(episode("bind@12").depths) == {None}


def test_a_setting_the_suite_refuses_is_said():
    with pytest.raises(InputError, match="needle@4:ways=3"):
        episode("needle@4:ways=3")
