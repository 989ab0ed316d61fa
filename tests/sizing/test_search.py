"""The search on its own: every threshold of every grid is found, in six evaluations."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasm.sizing.judge import confusions, interval
from tasm.sizing.search import MOST_EVALUATIONS, grid, smallest_that_passes


@pytest.mark.parametrize("count", [1, 2, 5, 26, 27])
def test_a_threshold_is_found(count: int) -> None:
    for threshold in range(count + 1):
        asked: list[int] = []

        def passes(place: int) -> bool:
            asked.append(place)  # noqa: B023
            return place >= threshold  # noqa: B023

        found = smallest_that_passes(count, passes)
        assert found == (threshold if threshold < count else None)
        assert len(asked) == len(set(asked)) <= MOST_EVALUATIONS


@given(st.lists(st.booleans(), min_size=1, max_size=27))
def test_whatever_passes_what_is_found_passed(passing: list[bool]) -> None:
    asked: list[int] = []

    def passes(place: int) -> bool:
        asked.append(place)
        return passing[place]

    found = smallest_that_passes(len(passing), passes)
    assert len(asked) == len(set(asked)) <= MOST_EVALUATIONS
    assert found is None or (passing[found] and found in asked)


def test_the_grid_grows_by_the_fourth_root_of_two() -> None:
    shares = [float(core.removesuffix("%")) for core in grid(0.0)]
    assert shares[-1] == 100 and 1 < shares[0] < 1.2
    ratios = [later / earlier for earlier, later in pairwise(shares)]
    assert ratios == pytest.approx([2**0.25] * len(ratios), rel=0.01)
    assert all(float(core.removesuffix("%")) >= 20 for core in grid(0.2))


def test_wilson_intervals_as_published() -> None:
    # Newcombe 1998, table I: 81 of 263, and 0 of 20.
    assert interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert interval(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_confusions_are_counted_in_order() -> None:
    found = confusions([("b", "a"), ("a", "a"), ("b", "a")])
    assert [(one.expected, one.said, one.times) for one in found] == [("a", "a", 1), ("b", "a", 2)]
