"""Metrics: what counts as right, by hand; exact match after NFC, case folding, collapsed white
space and one full stop less."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasm.demonstrations.metrics import METRICS, is_correct, normalise_answer


@pytest.mark.parametrize(
    ("metric", "said", "answers", "score"),
    [
        ("exact", "A wren.", ["a  Wren"], 1),
        ("exact", "wrens", ["wren"], 0),
        ("contains", "It is a house wren, I think", ["house wren"], 1),
        ("contains", "wrens", ["wren"], 0),
        ("f1", "a small brown wren", ["brown wren"], 2 / 3),
        ("f1", "robin", ["wren", "a robin"], 2 / 3),
        ("f1", "wren wren", ["wren"], 2 / 3),
        ("f1", "", ["wren"], 0),
        ("number", "1,234", ["1234"], 1),
        ("number", "first 3, then 12.50 euros", ["12.5"], 1),
        ("number", "between 3-4", ["4"], 1),
        ("number", "-4", ["4"], 0),
        ("number", "−4", ["-4"], 1),
        ("number", "1, 2", ["12"], 0),
        ("number", "5,6", ["56"], 0),
        ("number", "none", ["0"], 0),
        ("number", "0", ["0.0"], 1),
        ("number", "1e3", ["1000"], 1),
        ("choice", "(B) a wren", ["B"], 1),
        ("choice", "it is a wren: b", ["b"], 1),
        ("choice", "A or B", ["B"], 0),
    ],
)
def test_scores(metric: str, said: str, answers: list[str], score: float) -> None:
    assert METRICS[metric](said, answers) == pytest.approx(score)


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
