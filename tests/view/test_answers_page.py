"""The page of answers: wrong ones first, pictures inside, everything escaped."""

import re
from typing import Any

from PIL import Image

import tasm
from tasm.view.answers_page import answers_page, confusion_table


class Unplaced:
    place = None


def row(answer: str, correct: bool | None, confidence: float, *labels: str) -> dict[str, Any]:
    shares = [{"label": one, "probability": 1 / len(labels)} for one in labels]
    return {"answer": answer, "correct": correct, "confidence": confidence, "labels": shares}


def test_wrong_answers_come_first_and_the_surest_at_the_top() -> None:
    picture = Image.new("RGB", (40, 30), "red")
    queries = [
        tasm.make_query(f"Which <b>{number}</b>?", images=[picture] if number else [])
        for number in range(4)
    ]
    queries = [
        tasm.Query(f"q{n}", one.messages, ("wren",) if n != 3 else ())
        for n, one in enumerate(queries)
    ]
    rows = [
        row("wren", True, 0.9),
        row("robin", False, 0.5),
        row("<i>finch</i>", False, 0.8, "<i>finch</i>", "wren"),
        row("tit", None, 0.7),
    ]
    document = {"answers": rows, "accuracy": 1 / 3, "metric": "exact", "calibration_error": 0.2}
    page = answers_page(document, queries, Unplaced())  # type: ignore[arg-type]
    assert re.findall(r'<p class="soft small">(q\d)</p>', page) == ["q2", "q1", "q3", "q0"]
    assert page.count("<img") == 3 and "data:image/png;base64," in page
    assert "<b>" not in page and "<i>finch" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("expected wren") == 2


def test_confusions_are_counted() -> None:
    table = confusion_table([("a", "b"), ("a", "a"), ("c", "a"), ("a", "b")])
    assert table is not None
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["a", "b", "2"],
        ["c", "a", "1"],
    ]
    assert confusion_table([("a", "a")]) is None
