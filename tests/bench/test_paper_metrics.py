"""The published benchmarks' metrics, each against values worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasm.bench.paper.metrics import iou, iou_at_half, read_box, vqa
from tasm.demonstrations.metrics import choice, contains, exact


@pytest.mark.parametrize(
    ("prediction", "answers", "score"),
    [
        ("house wren.", ["house wren"], 1),
        ("I think it is a House  Wren, maybe", ["house wren"], 1),
        ("wrens", ["wren"], 0),
        ("", ["wren"], 0),
    ],
)
def test_contains(prediction, answers, score):
    assert contains(prediction, answers) == score


@pytest.mark.parametrize(
    ("prediction", "right", "score"),
    [
        ("B", "B", 1),
        ("(B) a wren", "B", 1),
        ("The best answer is: b.", "B", 1),
        ("Apparently C", "C", 1),
        ("it is a wren: b", "B", 1),
        ("b", "B", 1),
        ("Bird", "B", 0),
        ("C", "B", 0),
        ("", "B", 0),
    ],
)
def test_choice(prediction, right, score):
    assert choice(prediction, [right]) == score


def test_exact_ignores_case_and_final_stop():
    assert exact("Left.", ["left"]) == 1 and exact("left side", ["left"]) == 0


@pytest.mark.parametrize(
    ("prediction", "answers", "score"),
    [
        # ten people, three say dog: leaving one of them out leaves two, so 3 of 10 times 2/3
        ("dog", ["dog"] * 3 + ["cat"] * 7, (7 * 1 + 3 * 2 / 3) / 10),
        ("dog", ["dog"] * 4 + ["cat"] * 6, 1.0),
        ("dog", ["dog"] + ["cat"] * 9, (9 * 1 / 3 + 0) / 10),
        ("A Dog!", ["the dog"] * 10, 1.0),
        ("two", ["2"] * 10, 1.0),
        ("bird", ["dog"] * 10, 0.0),
        ("dog", ["dog"], 1.0),
    ],
)
def test_vqa_accuracy(prediction, answers, score):
    assert vqa(prediction, answers) == pytest.approx(score)


def test_iou_by_hand():
    assert iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_boxes_are_read_from_text():
    assert read_box("It is at [0.10, .2, 0.5, 1].") == (0.1, 0.2, 0.5, 1.0)
    assert read_box("[0.5, 0.6, 0.1, 0.2]") == (0.1, 0.2, 0.5, 0.6)
    assert read_box("three numbers: 1, 2, 3") is None


def test_iou_at_half_counts_boxes_that_overlap_enough():
    assert iou_at_half("[0, 0, 1, 0.5]", ["[0, 0, 1, 1]"]) == 1
    assert iou_at_half("[0, 0, 1, 0.49]", ["[0, 0, 1, 1]"]) == 0
    assert iou_at_half("nowhere", ["[0, 0, 1, 1]"]) == 0


corner = st.floats(0, 1)


@given(st.tuples(corner, corner, corner, corner), st.tuples(corner, corner, corner, corner))
def test_iou_is_a_symmetric_share(first, second):
    def box(c):
        return min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])

    found = iou(box(first), box(second))
    assert 0 <= found <= 1 + 1e-9
    assert found == pytest.approx(iou(box(second), box(first)))
