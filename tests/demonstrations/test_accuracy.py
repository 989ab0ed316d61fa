"""Exact match after NFC, case folding, collapsed white space and one full stop less."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasm.demonstrations import is_correct, normalise_answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wren", "wren"),
        ("  A\tWren \n", "a wren"),
        ("Wren.", "wren"),
        ("Wren..", "wren."),
        ("wren .", "wren"),
        ("3.5", "3.5"),
        ("U.S.", "u.s"),
        ("Straße", "strasse"),
        ("e\u0301", "\u00e9"),
        ("Ǐ", "ǐ"),
        (".", ""),
        ("", ""),
    ],
)
def test_examples(text: str, expected: str) -> None:
    assert normalise_answer(text) == expected


@given(st.text())
def test_writing_it_another_way_changes_nothing(text: str) -> None:
    expected = normalise_answer(text)
    assert normalise_answer(f"  {text}\n") == expected
    assert normalise_answer(unicodedata.normalize("NFD", text)) == expected
    assert normalise_answer(text.casefold()) == expected


def test_any_accepted_answer_counts() -> None:
    assert is_correct("House  Wren.", ["wren", "house wren"])
    assert not is_correct("wrens", ["wren", "house wren"])
    assert not is_correct("wren", [])
    assert is_correct("wren", "Wren")
    assert not is_correct("w", "wren")
