"""Places of image tokens, against grids written out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasm.backbone.checkpoint.families import FAMILIES
from tasm.backbone.prompt.image_places import places_of

TOKEN = "<i>"


def test_a_merged_grid() -> None:
    places = places_of("grid", TOKEN * 6, TOKEN, grid=(1, 4, 6))
    assert places.tolist() == [[0, h, w] for h in range(2) for w in range(3)]


def test_crops_follow_one_another() -> None:
    places = places_of("square", f"{TOKEN * 4} and crops {TOKEN * 4} {TOKEN * 4}", TOKEN)
    assert places.tolist() == [[t, h, w] for t in range(3) for h in range(2) for w in range(2)]


def test_tiles_without_separators_are_told_by_the_vision_tower() -> None:
    places = places_of("square", TOKEN * 12, TOKEN, tiles=3)
    assert places.tolist() == [[t, h, w] for t in range(3) for h in range(2) for w in range(2)]


def test_tagged_tiles_lie_on_one_grid_and_the_whole_image_behind_them() -> None:
    text = f"<row_1_col_1>{TOKEN * 4}<row_1_col_2>{TOKEN * 4}\n\n<global-img>{TOKEN * 4}"
    places = places_of("tiles", text, TOKEN)
    assert places.tolist() == [
        *([0, h, w] for h in range(2) for w in range(2)),
        *([0, h, w] for h in range(2) for w in (2, 3)),
        *([1, h, w] for h in range(2) for w in range(2)),
    ]


def test_rows_with_breaks() -> None:
    text = f"{TOKEN * 3}<break>{TOKEN * 3}<end>"
    assert places_of("rows", text, TOKEN).tolist() == [
        [0, h, w] for h in range(2) for w in range(3)
    ]


@pytest.mark.parametrize(
    ("size", "fine"),
    [((100, 100), (8, 8)), ((50, 100), (4, 8)), ((40, 100), (4, 8)), ((112, 84), (8, 6))],
)
def test_a_finer_grid_behind_the_whole_image(size: tuple[int, int], fine: tuple[int, int]) -> None:
    height, width = fine
    count = 16 + height * (width + 1)
    pinpoints = [[28, 56], [56, 28], [56, 56]]
    places = places_of("anyres", TOKEN * count, TOKEN, size=size, pinpoints=pinpoints, base=4)
    assert places[:16].tolist() == [[0, h, w] for h in range(4) for w in range(4)]
    expected = [[1, h, w] for h in range(height) for w in range(width + 1)]
    assert places[16:].tolist() == expected


def test_an_image_among_several_is_one_square_and_a_newline() -> None:
    places = places_of("anyres", TOKEN * 17, TOKEN, size=(50, 50), pinpoints=[[28, 28]], base=4)
    assert places[-1].tolist() == [0, 3, 4]


@given(
    st.sampled_from(sorted({family.places for family in FAMILIES.values()} - {"text"})),
    st.integers(1, 200),
    st.integers(1, 5),
)
def test_every_token_has_a_place_of_its_own(layout: str, count: int, tiles: int) -> None:
    places = places_of(
        layout,  # type: ignore[arg-type]
        TOKEN * count,
        TOKEN,
        grid=(1, 2, 2 * count) if layout == "grid" else None,
        tiles=tiles,
        size=(30, 40),
        pinpoints=[[28, 56]],
        base=4,
        largest=9,
    )
    assert places.shape == (count, 3)
    assert len({tuple(place) for place in places.tolist()}) == count
