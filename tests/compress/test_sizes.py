"""Budgets as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasm.compress.chunks import chunk_edges
from tasm.compress.sizes import Costs, bank_tokens, core_tokens, parse_size
from tasm.errors import BudgetError

COSTS = Costs(
    tokens=1000,
    always=30,
    core_token_bytes=2000,
    bank_token_bytes=1900,
    fixed_bytes=50_000,
    full_bytes=1_900_000,
)


def refuse(sentence: str) -> None:
    raise AssertionError(f"no notice was expected: {sentence}")


@pytest.mark.parametrize(
    ("written", "tokens"),
    [
        ("20%", 200),
        ("3%", 30),
        ("100%", 1000),
        ("512", 512),
        (512, 512),
        ("30", 30),
        ("1MB", (1_000_000 - 50_000) // 2000),
        ("150 kB", 50),
        ("0.5mb", (500_000 - 50_000) // 2000),
    ],
)
def test_core(written: str | int, tokens: int) -> None:
    assert core_tokens(written, COSTS, refuse) == tokens


@pytest.mark.parametrize(
    ("written", "smallest"),
    [
        ("0", "30 tokens"),
        ("0%", "3%"),
        ("29", "30 tokens"),
        ("2.9%", "3%"),
        ("100kB", "110000 bytes"),
        ("1B", "110000 bytes"),
    ],
)
def test_too_small_a_core_names_the_smallest(written: str, smallest: str) -> None:
    with pytest.raises(BudgetError, match=f"smallest possible here is {smallest}"):
        core_tokens(written, COSTS, refuse)
    assert core_tokens(smallest.replace(" tokens", "").replace(" bytes", "B"), COSTS, refuse) == 30


@pytest.mark.parametrize("written", ["300%", "100.1%"])
def test_more_than_everything(written: str) -> None:
    with pytest.raises(BudgetError, match="100 %"):
        core_tokens(written, COSTS, refuse)


@pytest.mark.parametrize("written", ["", "many", "-5", "20 percent", "1.5", "1TB", "%"])
def test_not_a_budget(written: str) -> None:
    with pytest.raises(BudgetError, match="core budget"):
        core_tokens(written, COSTS, refuse)


def test_more_tokens_than_there_are() -> None:
    notices: list[str] = []
    assert core_tokens("5000", COSTS, notices.append) == 1000
    assert "1000 tokens" in notices[0]


def test_bank_is_cut_with_a_notice() -> None:
    notices: list[str] = []
    assert bank_tokens("40%", 200, COSTS, refuse) == 400
    assert bank_tokens("0", 200, COSTS, refuse) == 0
    assert bank_tokens("40%", 800, COSTS, notices.append) == 200
    assert "cut to 200" in notices[0]


@given(st.integers(1, 100), st.integers(1, 5000), st.integers(0, 50))
def test_a_share_is_never_exceeded(percent: int, tokens: int, always: int) -> None:
    costs = Costs(max(tokens, always), always, 10, 10, 0, 1000)
    try:
        kept = core_tokens(f"{percent}%", costs, refuse)
    except BudgetError:
        assert percent * costs.tokens // 100 < max(1, always)
    else:
        assert kept == percent * costs.tokens // 100


def test_units_are_decimal() -> None:
    assert parse_size("1MB", "core").amount == 10**6
    assert parse_size("1GB", "core").amount == 10**9


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 200))
def test_chunks_cover_every_demonstration_once(lengths: list[int], chunk_tokens: int) -> None:
    spans, start = [], 7
    for length in lengths:
        spans.append((start, start + length))
        start += length
    edges = chunk_edges(spans, chunk_tokens)
    assert [n for first, stop in edges for n in range(first, stop)] == list(range(len(spans)))
    for first, stop in edges:
        begin = 0 if first == 0 else spans[first][0]
        assert stop - first == 1 or spans[stop - 1][1] - begin <= chunk_tokens
